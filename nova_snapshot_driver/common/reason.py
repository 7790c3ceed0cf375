# SPDX-License-Identifier: Apache-2.0
"""Why something failed, in one line of plain text.

The errors of client libraries hold anything: an HTML page of a proxy, a whole
JSON schema, a token, nothing at all, or less than the error that caused them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from collections.abc import Iterator

#: The most characters of a reason, so that a user can read it.
LONGEST = 500

#: The replacement for a secret.
HIDDEN = '***'

#: Classes whose text means nothing without their name: the text of a
#: ``KeyError`` is the key.
_NAMELESS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    TypeError,
)

# An HTML page, as opposed to text with an angle bracket in it.
_PAGE = re.compile(r'<(!doctype|html|head|body|title|h1|p|br|center)\b', re.I)
_UNSEEN = re.compile(r'<(head|style|script)\b.*?</\1\s*>', re.I | re.S)
_COMMENT = re.compile(r'<!--.*?-->', re.S)
_TAG = re.compile(r'<[^<>]*>')
_TITLE = re.compile(r'<title\b[^>]*>(.*?)</title\s*>', re.I | re.S)
_PARAGRAPH = re.compile(r'\n[ \t\r]*\n')


def of(error: BaseException, secrets: Iterable[str | None] = ()) -> str:
    """The reason why an error was raised.

    The text of an error that was raised ``from`` another one is followed by
    that of the other one, unless it repeats it.

    :param secrets: texts that must not be shown, such as a token: some
        libraries quote the header that they refuse
    """
    hidden = list(filter(None, secrets))
    told = ''
    for each in _chain(error):
        text = _of_one(each, hidden)
        if text.casefold() in told.casefold():
            continue
        told = f'{told.rstrip(".")}: {text}' if told else text
    return shortened(told)


def named(error: BaseException) -> str:
    """The reason of an unexpected error, after the name of its class."""
    name, why = type(error).__name__, of(error)
    return why if why.startswith(name) else f'{name}: {why}'


def plain(text: str) -> str:
    """Text without markup and control characters, in one line.

    Of several paragraphs the first one says what is wrong; jsonschema goes on
    with the whole schema.
    """
    if _PAGE.search(text):
        text = html.unescape(_TAG.sub(' ', _visible(text)))
    else:
        text = html.unescape(_PARAGRAPH.split(text.strip(), maxsplit=1)[0])
    printable = ''.join(
        character if character.isprintable() else ' ' for character in text
    )
    return ' '.join(printable.split())


def shortened(text: str) -> str:
    """Text that is no longer than ``LONGEST``."""
    return text if len(text) <= LONGEST else f'{text[: LONGEST - 1]}…'


def _visible(page: str) -> str:
    """The body of a page; its title where the body says nothing."""
    body = _UNSEEN.sub(' ', _COMMENT.sub(' ', page))
    if _TAG.sub(' ', body).strip():
        return body
    return ' '.join(_TITLE.findall(page))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__


def _of_one(error: BaseException, secrets: Iterable[str]) -> str:
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        # A class of a library may fail in its own __str__().
        text = ''
    for secret in secrets:
        for written in (secret, repr(secret)[1:-1]):
            text = text.replace(written, HIDDEN)
    text = plain(text)
    if not text:
        return name
    return f'{name}: {text}' if isinstance(error, _NAMELESS) else text
