# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys

import testtools

import nova_snapshot_driver

PACKAGE = pathlib.Path(nova_snapshot_driver.__file__).parent
HACKING = PACKAGE.parent / 'HACKING.rst'


def rooms() -> dict[str, tuple[int, int]]:
    """The line of each room in HACKING.rst, and its place in that."""
    section = HACKING.read_text().split('Arrows point down only')[1]
    lines = re.split(r'^\* ', section.split('And:')[0], flags=re.MULTILINE)
    return {
        name: (line, place)
        for line, text in enumerate(lines)
        for place, part in enumerate(text.split(';'))
        for name in re.findall(r'``(\w+)``', part)
    }


def room_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).with_suffix('').parts[0]


def imported(path: pathlib.Path) -> set[str]:
    """The rooms that a module goes to, but for those of types alone."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        package, *parts = node.module.split('.')
        if package == nova_snapshot_driver.__name__:
            found |= {parts[0]} if parts else {n.name for n in node.names}
    return found


class ArrowsTest(testtools.TestCase):
    def test_every_module_is_in_a_room(self) -> None:
        modules = {room_of(path) for path in PACKAGE.rglob('*.py')}
        self.assertEqual(modules - {'__init__'}, set(rooms()))

    def test_arrows_point_down(self) -> None:
        known = rooms()
        wrong = [
            f'{path.relative_to(PACKAGE)} imports {room}'
            for path in sorted(PACKAGE.rglob('*.py'))
            for room in sorted(imported(path) - {room_of(path)})
            if known[room] < known[room_of(path)]
        ]
        self.assertEqual([], wrong)

    def test_data_plane_loads_no_client(self) -> None:
        """It is started for every snapshot, and they take their time."""
        program = (
            'import importlib, sys\n'
            'from nova_snapshot_driver.transfer.__main__ import JOBS\n'
            'for module in JOBS.values(): importlib.import_module(module)\n'
            'print(*sys.modules)\n'
        )
        loaded = subprocess.check_output(
            [sys.executable, '-c', program], text=True, timeout=60
        ).split()
        self.assertIn('nova_snapshot_driver.transfer.stream', loaded)
        self.assertEqual(
            set(), {'glanceclient', 'cinderclient', 'libvirt'} & set(loaded)
        )
