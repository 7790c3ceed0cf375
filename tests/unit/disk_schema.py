# SPDX-License-Identifier: Apache-2.0
"""The content of elements, as libvirt's own schema allows it."""

from __future__ import annotations

import pathlib
from collections import defaultdict
from collections.abc import Iterator
from xml.etree import ElementTree

#: Where libvirt's library has its RELAX NG schemas.
DIRECTORY = pathlib.Path('/usr/share/libvirt/schemas')

_RNG = '{http://relaxng.org/ns/structure/1.0}'


class Schema:
    """A grammar, with those that it includes.

    What an including file defines anew counts together with what it defines
    so: nothing of it may be missed.

    :param name: of the file
    """

    def __init__(self, name: str) -> None:
        self._definitions: dict[str, list[ElementTree.Element]] = defaultdict(
            list
        )
        self._files: set[str] = set()
        self._read(name)

    def _read(self, name: str) -> None:
        if name in self._files:
            return
        self._files.add(name)
        for pattern in ElementTree.parse(DIRECTORY / name).getroot().iter():
            if pattern.tag == f'{_RNG}include':
                self._read(pattern.get('href', ''))
            elif pattern.tag == f'{_RNG}define':
                self._definitions[pattern.get('name', '')].append(pattern)

    def inside(self, definition: str) -> dict[str, set[str]]:
        """The values of all that may be inside of an element.

        :param definition: of the element, and of nothing else
        :returns: by paths as ``source/host/@name``; there are values of
            attributes alone, and only where the schema lists them. A
            definition that is part of itself is followed once
        """
        found: dict[str, set[str]] = {}
        for path, pattern in self._named(definition, '', ()):
            _element, _, path = path.partition('/')
            if path:
                found.setdefault(path, set()).update(self._values(pattern))
        return found

    def _named(
        self, definition: str, above: str, within: tuple[str, ...]
    ) -> Iterator[tuple[str, ElementTree.Element]]:
        if definition not in within:
            for pattern in self._definitions[definition]:
                yield from self._below(pattern, above, (*within, definition))

    def _below(
        self, pattern: ElementTree.Element, above: str, within: tuple[str, ...]
    ) -> Iterator[tuple[str, ElementTree.Element]]:
        for child in pattern:
            name = child.get('name', '')
            match child.tag.removeprefix(_RNG):
                case 'ref':
                    yield from self._named(name, above, within)
                case 'attribute':
                    yield f'{above}@{name}', child
                case 'element' if child.find(f'{_RNG}notAllowed') is None:
                    yield f'{above}{name}', child
                    yield from self._below(child, f'{above}{name}/', within)
                case 'element':
                    pass
                case _:
                    yield from self._below(child, above, within)

    def _values(self, pattern: ElementTree.Element) -> set[str]:
        if pattern.tag != f'{_RNG}attribute':
            return set()
        return set(self._listed(pattern))

    def _listed(self, pattern: ElementTree.Element) -> Iterator[str]:
        for child in pattern.iter():
            if child.tag == f'{_RNG}value':
                yield child.text or ''
            elif child.tag == f'{_RNG}ref':
                for definition in self._definitions[child.get('name', '')]:
                    yield from self._listed(definition)
