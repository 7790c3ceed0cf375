# SPDX-License-Identifier: Apache-2.0
"""Finds comments and docstrings that do not begin with their subject.

A reader meets a comment without the paragraph that its author had in mind: a
pronoun on its first place sends the reader to look for the noun. The arguments
are files and folders; without any, all of the project is read.
"""

import ast
import dataclasses
import io
import itertools
import pathlib
import re
import sys
import tokenize
from collections.abc import Iterator

FOLDERS = ('nova_snapshot_driver', 'nova', 'lab', 'bench', 'tests', 'tools')

#: Words that stand for a noun, or refer to one, which is elsewhere.
PRONOUNS = frozenset(
    [
        *('it', 'its', 'he', 'his', 'she', 'her'),
        *('they', 'them', 'their', 'this', 'that', 'these', 'those'),
        *('there', 'here', 'one', 'ones', 'none', 'others', 'such'),
        *('so', 'thus', 'what', 'whatever', 'which', 'whichever'),
        *('who', 'whoever', 'whom', 'whose'),
    ]
)

# Words with which a noun may follow; a verb shows that none does.
_DETERMINERS = ('another', 'some', 'either', 'neither')

#: Beginnings of two words that refer to a noun elsewhere.
PHRASES = frozenset(
    [
        *(('the', 'same'), ('the', 'others'), ('another', 'one')),
        *((first, 'of') for first in _DETERMINERS),
        *(
            (first, verb)
            for first in _DETERMINERS
            for verb in ('is', 'are', 'was', 'were', 'has', 'have', 'may')
        ),
    ]
)

_WORDS = re.compile(r"[A-Za-z'-]+")
# Everything before the first word: the marks of a comment and of markup.
_MARKS = re.compile(r'^[#:!\s]*')


@dataclasses.dataclass(frozen=True)
class Remark:
    """A comment, of all its lines, or a docstring."""

    line: int
    text: str
    is_docstring: bool


@dataclasses.dataclass(frozen=True)
class Finding:
    """A remark that does not begin with its subject."""

    path: pathlib.Path
    line: int
    beginning: str
    text: str

    def __str__(self) -> str:
        return (
            f'{self.path}:{self.line}: begins with "{self.beginning}", whose '
            f'noun is elsewhere: begin with the noun, or with a verb. '
            f'[{self.text}]'
        )


def beginning(remark: Remark) -> str | None:
    """The words at the beginning of a remark that have no noun, if any."""
    words: list[str] = _WORDS.findall(remark.text.partition('\n')[0])[:2]
    if not words:
        return None
    if words[0].lower() in PRONOUNS:
        return words[0]
    phrase = ' '.join(words)
    return phrase if tuple(phrase.lower().split()) in PHRASES else None


def remarks(source: str) -> Iterator[Remark]:
    """All comments and docstrings of a module."""
    yield from _docstrings(source)
    yield from _comments(source)


def _docstrings(source: str) -> Iterator[Remark]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(
            node,
            ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
        ):
            text = ast.get_docstring(node)
            if text is not None:
                yield Remark(node.body[0].lineno, text, is_docstring=True)


def _comments(source: str) -> Iterator[Remark]:
    """The comments of a module; lines that continue one are a part of it."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT]

    def block(item: tuple[int, tokenize.TokenInfo]) -> tuple[object, ...]:
        index, token = item
        if token.line[: token.start[1]].strip():
            # A comment after code continues nothing.
            return token.start
        return (token.start[0] - index, token.start[1])

    for _, group in itertools.groupby(enumerate(comments), key=block):
        lines = [token for _, token in group]
        text = '\n'.join(_MARKS.sub('', token.string) for token in lines)
        yield Remark(lines[0].start[0], text, is_docstring=False)


def check(path: pathlib.Path) -> list[Finding]:
    """The findings in one file, from its first line to its last."""
    return sorted(
        (
            Finding(path, remark.line, words, remark.text.partition('\n')[0])
            for remark in remarks(path.read_text())
            if (words := beginning(remark)) is not None
        ),
        key=lambda finding: finding.line,
    )


def files(places: list[pathlib.Path]) -> list[pathlib.Path]:
    """The Python files among ``places`` and in the folders among them."""
    found: set[pathlib.Path] = set()
    for place in places:
        found.update(place.rglob('*.py') if place.is_dir() else [place])
    return sorted(found)


def main(arguments: list[str]) -> int:
    places = [pathlib.Path(argument) for argument in arguments or FOLDERS]
    findings = [found for path in files(places) for found in check(path)]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
