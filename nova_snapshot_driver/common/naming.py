# SPDX-License-Identifier: Apache-2.0
"""Names and words of our own making that Glance and a file system take."""

from __future__ import annotations

import os
import re
import secrets
import uuid

#: The characters of the name of an image, and of a property in Nova's database
#: when a server is booted from the image.
LONGEST = 255

#: The substitute for a character that Glance does not take.
SUBSTITUTE = '_'

# Glance refuses what needs four bytes in UTF-8, such as an emoji, since MySQL
# may have no room for it (``glance.common.utils.no_4byte_params``).
_LAST = '\uffff'

#: The beginnings of the names of dirty bitmaps: of chains of files, and of
#: volumes in Cinder.
CHAIN_BITMAP = 'nova-snapshot-chain-'
VOLUME_BITMAP = 'nova-snapshot-volume-'

_UUID = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')

_DRAFT = re.compile(r'[^/]\.[0-9a-f]{8}\.part\Z')


def for_glance(text: str, longest: int = LONGEST) -> str:
    """Text that Glance takes as a name, or as the value of a property.

    The result depends on the text alone.
    """
    return ''.join(
        character
        if character.isprintable() and character <= _LAST
        else SUBSTITUTE
        for character in text[:longest]
    )


def refusal(name: str) -> str | None:
    """Why Glance takes no image with a name; None where it does."""
    if not name:
        return 'it is empty'
    if len(name) > LONGEST:
        return f'it has {len(name)} characters, and may have {LONGEST}'
    try:
        name.encode()
    except UnicodeEncodeError:
        return 'it is not UTF-8'
    foreign = next((each for each in name if each > _LAST), None)
    if foreign is not None:
        return (
            f'the character U+{ord(foreign):X} takes four bytes, and Glance '
            'takes none of those'
        )
    return None


def draft_of(path: str, longest: int) -> str:
    """A path beside that of a file, which nobody can predict.

    The name is that of the file with a suffix, and is shortened before the
    suffix where it would be too long.

    :param longest: the most bytes that a name may have there
    """
    suffix = f'.{secrets.token_hex(4)}.part'
    directory, name = os.path.split(path)
    room = max(longest - len(suffix), 0)
    while len(os.fsencode(name)) > room:
        # Cut between characters: a file system may require valid UTF-8.
        name = name[:-1]
    return os.path.join(directory, f'{name}{suffix}')


def is_draft(path: str) -> bool:
    """Whether a path is that of a draft."""
    return _DRAFT.search(path) is not None


def new_bitmap(beginning: str) -> str:
    """A name for a dirty bitmap, unique for ever.

    :param beginning: that says whose it is
    """
    return f'{beginning}{uuid.uuid4()}'


def is_bitmap(name: str, beginning: str) -> bool:
    """Whether a dirty bitmap is one of those with a beginning."""
    return (
        name.startswith(beginning)
        and _UUID.fullmatch(name.removeprefix(beginning)) is not None
    )
