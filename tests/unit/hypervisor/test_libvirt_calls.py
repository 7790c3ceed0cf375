# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import pathlib

import libvirt
import testtools

import nova_snapshot_driver
from nova_snapshot_driver.hypervisor.libvirt_calls import BOUNDS
from nova_snapshot_driver.hypervisor.libvirt_calls import CALLS
from nova_snapshot_driver.hypervisor.libvirt_calls import Answerer
from nova_snapshot_driver.hypervisor.libvirt_calls import Bound

PACKAGE = pathlib.Path(nova_snapshot_driver.__file__).parent

CLASSES = (
    libvirt.virConnect,
    libvirt.virDomain,
    libvirt.virDomainCheckpoint,
    libvirt.virSecret,
    libvirt.virStoragePool,
    libvirt.virStorageVol,
    libvirt.virStream,
)

METHODS = {
    name for kind in CLASSES for name in dir(kind) if not name.startswith('_')
}

#: The expressions that stand for no object of libvirt, where it is used.
OURS = (
    'self',
    'self._guest',
    'self._guest.jobs',
    'self._domain',
    'guest',
    'uuid',
)


def rooms_of_libvirt() -> list[pathlib.Path]:
    """The modules that import libvirt, or know the class of its objects."""
    return [
        path
        for path in sorted(PACKAGE.rglob('*.py'))
        if 'import libvirt\n' in path.read_text()
        or 'import LibvirtObject\n' in path.read_text()
    ]


def methods_used() -> set[str]:
    """Methods of libvirt that are called, or handed on to be called."""
    found = set()
    for path in rooms_of_libvirt():
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in METHODS
                and ast.unparse(node.value) not in OURS
            ):
                found.add(node.attr)
            if isinstance(node, ast.Call) and _begins(node):
                found.add(ast.literal_eval(node.args[0]))
    return found


def _begins(node: ast.Call) -> bool:
    """Whether it makes the call whose name it is given."""
    return isinstance(node.func, ast.Attribute) and node.func.attr == 'begun'


class TableTest(testtools.TestCase):
    def test_it_has_every_call_and_no_other(self) -> None:
        found = methods_used() | {'open'}
        self.assertEqual(set(CALLS), found)

    def test_each_is_of_its_class(self) -> None:
        for name, call in CALLS.items():
            for kind in call.of.split():
                of = libvirt if kind == 'libvirt' else getattr(libvirt, kind)
                self.assertTrue(hasattr(of, name), f'{kind}.{name}')

    def test_each_is_bounded(self) -> None:
        for name, call in CALLS.items():
            self.assertIs(
                call.answered_by is Answerer.OBJECT,
                call.bound is Bound.NOTHING,
                name,
            )
        self.assertEqual(set(Answerer), set(BOUNDS))
