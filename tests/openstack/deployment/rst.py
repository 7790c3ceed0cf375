# SPDX-License-Identifier: Apache-2.0
"""The literal blocks of a page of the documentation."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import textwrap
from collections.abc import Iterator

DOCUMENTATION = pathlib.Path(__file__).resolve().parents[3] / 'doc/source'

_UNDERLINE = re.compile(r'([=\-~^])\1+')
_DIRECTIVE = re.compile(r'\s*\.\. code-block:: (\w+)')
_COMMENT_WITH_FILE = re.compile(r'# (/\S+)')


@dataclasses.dataclass(frozen=True)
class Command:
    """A line of shell, with what it is continued by."""

    line: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options to write into a file.

    :ivar file: as the page names it; empty where its text does
    """

    file: str
    text: str


@dataclasses.dataclass(frozen=True)
class Block:
    """A literal block.

    :ivar section: the title above it
    :ivar words: the paragraph above it
    :ivar language: of a code block; empty for any other
    """

    section: str
    words: str
    language: str
    text: str

    @property
    def steps(self) -> Iterator[Command | Settings]:
        """The instructions, in their order.

        A paragraph that begins with the path of a file in a comment, and a
        block that is an ini file, are settings; the rest is commands.
        """
        if self.language == 'ini':
            yield Settings('', self.text)
        elif self.language in ('', 'console', 'shell'):
            for paragraph in re.split(r'\n{2,}', self.text):
                yield from _steps_of(paragraph)


def blocks(page: str) -> list[Block]:
    """The literal blocks of a page, in their order.

    :param page: such as ``install/deployment``
    """
    return read((DOCUMENTATION / f'{page}.rst').read_text())


def read(text: str) -> list[Block]:
    """The literal blocks of a text."""
    return list(_blocks(text.splitlines()))


def find(page: str, words: str) -> Block:
    """The block under a paragraph with some words.

    :raises LookupError: none, or several
    """
    found = [block for block in blocks(page) if words in block.words]
    if len(found) != 1:
        raise LookupError(f'{page}: {len(found)} blocks under {words!r}')
    return found[0]


def _blocks(lines: list[str]) -> Iterator[Block]:
    section, paragraph, previous = '', '', ''
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        directive = _DIRECTIVE.match(line)
        if directive or (line.endswith('::') and '..' not in line):
            if not directive:
                paragraph = f'{paragraph} {line.strip()}'
            body, number = _indented(lines, number, _indent(line))
            language = directive[1] if directive else ''
            yield Block(section, paragraph.strip(), language, body)
            paragraph = ''
        elif _UNDERLINE.fullmatch(line) and previous:
            section, paragraph = previous, ''
        elif line.strip():
            # The paragraph above a directive is apart from it by a line.
            paragraph = f'{paragraph} {line.strip()}' if previous else line
        previous = line.strip()


def _indented(lines: list[str], number: int, indent: int) -> tuple[str, int]:
    """The lines that are indented more, and the number of the next one."""
    body = []
    while number < len(lines):
        line = lines[number]
        if line.strip() and _indent(line) <= indent:
            break
        body.append(line)
        number += 1
    return textwrap.dedent('\n'.join(body)).strip('\n'), number


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _steps_of(paragraph: str) -> Iterator[Command | Settings]:
    first, *others = paragraph.splitlines()
    file = _COMMENT_WITH_FILE.fullmatch(first)
    if file:
        yield Settings(file[1], '\n'.join(others))
        return
    for line in paragraph.replace('\\\n', ' ').splitlines():
        if not line.startswith('#'):
            yield Command(' '.join(line.removeprefix('$ ').split()))


def of_section(page: str, section: str) -> list[Block]:
    """The blocks of a section, in their order."""
    return [block for block in blocks(page) if block.section == section]


def sections(page: str) -> list[str]:
    """The titles that have blocks, in their order."""
    return list(dict.fromkeys(block.section for block in blocks(page)))
