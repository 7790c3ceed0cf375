# SPDX-License-Identifier: Apache-2.0
"""The folders of the package, and the arrows between them."""

from __future__ import annotations

import ast
import collections
import dataclasses
import graphlib
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import ddt
import testtools

import nova_snapshot_driver
from tests.unit import tables

NAME = nova_snapshot_driver.__name__
PACKAGE = pathlib.Path(nova_snapshot_driver.__file__).parent
HACKING = PACKAGE.parent / 'HACKING.rst'

#: A line of the drawing: rooms, and what they are.
FLOOR = re.compile(r'    (\S+(?:, \S+)*) {2,}\S')

#: Rooms that alone may import something, by what that is.
KEEPERS = {
    'libvirt': ('hypervisor',),
    'libvirt_qemu': (),
    'glanceclient': ('clients',),
    'cinderclient': ('clients',),
    'nbd': ('transfer/nbd',),
    'nova': ('nova',),
    'prometheus_client': ('snapshot',),
}

#: Rooms that one may not import, although they are below it, by its name.
SHUT = {
    'snapshot/plan': ('clients', 'state'),
    'transfer': ('hypervisor', 'state'),
    'transfer/jobs': ('hypervisor', 'state'),
    'transfer/formats': ('hypervisor', 'state'),
    'transfer/nbd': ('hypervisor', 'state'),
}


def floors() -> list[tuple[str, ...]]:
    """The rooms as HACKING.rst draws them, the highest floor first."""
    drawing = HACKING.read_text().split('Arrows point down only')[1]
    drawn = drawing.split('And:')[0].splitlines()
    return [
        tuple(match[1].split(', '))
        for line in drawn
        if (match := FLOOR.match(line))
    ]


@dataclasses.dataclass(frozen=True)
class Module:
    """A module of the package.

    :ivar name: in full
    """

    name: str
    path: pathlib.Path

    @property
    def room(self) -> str:
        """The folder, or the module itself where that is in none."""
        place = self.path.relative_to(PACKAGE)
        folder = place.parent.as_posix()
        return place.stem if folder == '.' else folder

    def imports(self) -> Iterator[str]:
        """All imports in the module by full name, even those for types."""
        for node in ast.walk(ast.parse(self.path.read_text())):
            if isinstance(node, ast.Import):
                yield from (each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                for each in node.names:
                    yield f'{node.module}.{each.name}'


def modules() -> dict[str, Module]:
    found = {}
    for path in sorted(PACKAGE.rglob('*.py')):
        parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
        name = '.'.join(parts).removesuffix('.__init__')
        found[name] = Module(name, path)
    # The package itself has nothing but its version.
    del found[NAME]
    return found


def targets(module: Module, known: dict[str, Module]) -> set[str]:
    """The modules of the package that a module imports."""
    found = set()
    for name in module.imports():
        for candidate in (name, name.rpartition('.')[0]):
            if candidate in known:
                found.add(candidate)
                break
    return found - {module.name}


@ddt.ddt
class ArrowsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.modules = modules()

    def arrows(self) -> dict[tuple[str, str], list[str]]:
        """The modules that import another room, by the two rooms."""
        found = collections.defaultdict(list)
        for module in self.modules.values():
            for target in targets(module, self.modules):
                rooms = module.room, self.modules[target].room
                if rooms[0] != rooms[1]:
                    found[rooms].append(f'{module.name} imports {target}')
        return found

    def test_every_room_is_drawn(self) -> None:
        drawn = [room for floor in floors() for room in floor]
        self.assertEqual(len(drawn), len(set(drawn)))
        self.assertEqual(
            {module.room for module in self.modules.values()}, set(drawn)
        )

    def test_arrows_point_down(self) -> None:
        height = {
            room: -line
            for line, floor in enumerate(floors())
            for room in floor
        }
        wrong = [
            arrow
            for (room, target), arrows in self.arrows().items()
            if height[target] >= height[room]
            for arrow in arrows
        ]
        self.assertEqual([], wrong)

    def test_no_circle(self) -> None:
        """Not within a room either, and not by what is imported for types."""
        sorter = graphlib.TopologicalSorter(
            {
                module.name: targets(module, self.modules)
                for module in self.modules.values()
            }
        )
        try:
            sorter.prepare()
        except graphlib.CycleError as error:
            self.fail(f'a circle: {error.args[1]}')

    @tables.rows({room: (room, shut) for room, shut in SHUT.items()})
    def test_room_is_shut(self, room: str, shut: tuple[str, ...]) -> None:
        wrong = [
            arrow
            for (begin, target), arrows in self.arrows().items()
            if begin == room and target in shut
            for arrow in arrows
        ]
        self.assertEqual([], wrong)

    @tables.rows({name: (name, rooms) for name, rooms in KEEPERS.items()})
    def test_keepers(self, foreign: str, rooms: tuple[str, ...]) -> None:
        wrong = [
            module.name
            for module in self.modules.values()
            if module.room not in rooms
            and any(
                name == foreign or name.startswith(f'{foreign}.')
                for name in module.imports()
            )
        ]
        self.assertEqual([], wrong)

    def test_settings_are_read_at_the_doors(self) -> None:
        doors = ('nova', 'cmd', 'cmd/check', 'cmd/shared', 'conf')
        wrong = sorted(
            module.name
            for module in self.modules.values()
            if module.room not in doors
            and 'oslo_config.cfg' in module.imports()
        )
        self.assertEqual([], wrong)

    def test_data_plane_loads_no_client(self) -> None:
        """The data plane starts for every snapshot; clients load slowly."""
        program = (
            'import importlib, sys\n'
            'from nova_snapshot_driver.transfer.__main__ import JOBS\n'
            'for module in JOBS.values(): importlib.import_module(module)\n'
            'print(*sys.modules)\n'
        )
        loaded = subprocess.check_output(
            [sys.executable, '-c', program], text=True, timeout=60
        ).split()
        self.assertIn(f'{NAME}.transfer.jobs.stream', loaded)
        self.assertEqual(
            set(), {'glanceclient', 'cinderclient', 'libvirt'} & set(loaded)
        )
