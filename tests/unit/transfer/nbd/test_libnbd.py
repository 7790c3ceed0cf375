# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.machinery
import pathlib
import subprocess
import sys

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.transfer.nbd import libnbd

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]

#: The question to an interpreter that has loaded nothing yet.
LOAD = """\
import sys
from nova_snapshot_driver.transfer.nbd import libnbd
print(libnbd.is_available(), 'libnbdmod' in sys.modules)
before = list(sys.path)
module = libnbd.load()
assert sys.path == before
assert libnbd.load() is module
print(module.__file__, module.NBD().get_handle_name() != '')
"""


class LibnbdTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def look_in(self, *directories: pathlib.Path) -> None:
        self.useFixture(
            fixtures.MockPatchObject(
                libnbd, 'DIRECTORIES', tuple(map(str, directories))
            )
        )
        self.useFixture(fixtures.MockPatchObject(sys, 'path', []))

    def test_of_the_distribution(self) -> None:
        """No module of the distribution can be imported but this one."""
        said = subprocess.run(
            [sys.executable, '-c', LOAD],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        self.assertEqual('True False', said[0])
        self.assertRegex(said[1], r'^/usr/lib.*/nbd\.py True$')

    def test_of_another_python(self) -> None:
        self.look_in(self.directory)
        self.assertIsNone(libnbd.of_another_python())
        other = self.directory / 'libnbdmod.cpython-39-x86_64-linux-gnu.so'
        other.touch()
        (self.directory / 'nbd.py').touch()
        self.assertFalse(libnbd.is_available())
        self.assertEqual(str(other), libnbd.of_another_python())
        (self.directory / f'libnbdmod{SUFFIX}').touch()
        self.assertIsNone(libnbd.of_another_python())

    def test_none(self) -> None:
        self.look_in(self.directory)
        self.assertFalse(libnbd.is_available())
        error = self.assertRaises(exception.LibnbdMissing, libnbd.load)
        self.assertIn(str(self.directory), str(error))
        self.assertIn('python3-libnbd', str(error))

    def test_other_package_of_that_name(self) -> None:
        """PyPI has one."""
        (self.directory / 'nbd.py').touch()
        self.look_in(self.directory)
        self.assertFalse(libnbd.is_available())

    def test_for_another_python(self) -> None:
        (self.directory / 'nbd.py').touch()
        (self.directory / 'libnbdmod.cpython-27-m68k-linux-gnu.so').touch()
        self.look_in(self.directory)
        self.assertFalse(libnbd.is_available())

    def test_can_not_be_loaded(self) -> None:
        (self.directory / 'nbd.py').touch()
        (self.directory / f'libnbdmod{SUFFIX}').write_text('no library')
        self.look_in(self.directory)
        self.assertTrue(libnbd.is_available())
        error = self.assertRaises(exception.LibnbdMissing, libnbd.load)
        self.assertIn(str(self.directory), str(error))
