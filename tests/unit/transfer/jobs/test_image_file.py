# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Callable

import ddt
import fixtures
import testtools

from nova_snapshot_driver.common import private_files
from nova_snapshot_driver.common.private_files import Refused
from nova_snapshot_driver.transfer.jobs import image_file
from tests.unit import tables

STRANGER = 65534


@ddt.ddt
class ImageFileTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.path = self.root / 'image'
        self.victim = self.root / 'victim'
        self.victim.write_text('precious')
        self.victim.chmod(0o644)

    def write(self) -> None:
        with image_file.opened(str(self.path)) as file:
            os.write(file, b'image')

    def is_refused(self) -> None:
        self.assertRaises(OSError, self.write)
        self.assertEqual('precious', self.victim.read_text())
        self.assertEqual(0o644, stat.S_IMODE(self.victim.stat().st_mode))

    @tables.rows({f'{mask:03o}': (mask,) for mask in (0, 0o077, 0o777)})
    def test_new(self, mask: int) -> None:
        self.addCleanup(os.umask, os.umask(mask))
        self.write()
        self.assertEqual('image', self.path.read_text())
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))

    def test_of_an_attempt_before(self) -> None:
        self.path.touch()
        self.write()
        self.assertEqual('image', self.path.read_text())

    @tables.rows(
        {
            'link': (lambda path, victim: path.symlink_to(victim),),
            'hard_link': (lambda path, victim: path.hardlink_to(victim),),
            'pipe': (lambda path, victim: os.mkfifo(path),),
            'directory': (lambda path, victim: path.mkdir(),),
            'device': (lambda path, victim: path.symlink_to('/dev/null'),),
        }
    )
    def test_planted(
        self, plant: Callable[[pathlib.Path, pathlib.Path], None]
    ) -> None:
        plant(self.path, self.victim)
        self.is_refused()

    def test_of_somebody_else(self) -> None:
        if os.geteuid() != private_files.ROOT:
            self.skipTest('a file is given away by root alone')
        self.path.touch()
        os.chown(self.path, STRANGER, STRANGER)
        error = self.assertRaises(Refused, self.write)
        self.assertIn(f'of the user {STRANGER}', str(error))
        self.assertEqual('', self.path.read_text())
