# SPDX-License-Identifier: Apache-2.0
"""A configuration file, as an operator edits it: line by line."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

_HEADER = re.compile(r'\[(.+)\]')


def parse(text: str) -> Iterator[tuple[str, str, str]]:
    """The section, the name and the value of each option of a text.

    :raises ValueError: a line is neither an option nor a section
    """
    section = ''
    for line in text.splitlines():
        if not line or line.startswith('#'):
            continue
        if header := _HEADER.fullmatch(line):
            section = header[1]
        elif '=' in line:
            option, _, value = line.partition('=')
            yield section, option.strip(), value.strip()
        else:
            raise ValueError(f'neither an option nor a section: {line}')


class IniFile:
    """A file with sections; what is not changed stays as it is."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def get(self, section: str, option: str) -> str | None:
        """The value of an option, the last one if there are several."""
        lines = self._lines()
        found = self._places(lines, section, option)
        return lines[found[-1]].partition('=')[2].strip() if found else None

    def set(self, section: str, option: str, value: object) -> None:
        """Set an option, in its place if it has one."""
        lines = self._lines()
        line = f'{option} = {value}'
        places = self._places(lines, section, option)
        if places:
            lines[places[-1]] = line
        elif f'[{section}]' in lines:
            lines.insert(lines.index(f'[{section}]') + 1, line)
        else:
            lines += [f'[{section}]', line]
        self._write(lines)

    def remove(self, section: str, option: str) -> None:
        """Take an option out, if it is there."""
        lines = self._lines()
        places = self._places(lines, section, option)
        self._write(
            [line for at, line in enumerate(lines) if at not in places]
        )

    def _lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def _write(self, lines: list[str]) -> None:
        self.path.write_text('\n'.join([*lines, '']))

    @staticmethod
    def _places(lines: list[str], section: str, option: str) -> list[int]:
        places, current = [], ''
        for at, line in enumerate(lines):
            if header := _HEADER.fullmatch(line):
                current = header[1]
            elif current == section and re.match(
                rf'{re.escape(option)}\s*=', line
            ):
                places.append(at)
        return places
