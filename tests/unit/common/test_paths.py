# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib

import fixtures
import testtools

from nova_snapshot_driver.common import paths
from tests.unit.denied import Denied


class PathsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.directory = self.root / 'directory'
        self.directory.mkdir()
        self.path = self.directory / 'file'

    def test_missing(self) -> None:
        for path in (self.path, self.root / 'no' / 'such'):
            self.assertFalse(paths.is_there(str(path)))
            self.assertFalse(paths.is_shut(str(path)))

    def test_below_a_file(self) -> None:
        self.path.touch()
        self.assertFalse(paths.is_there(str(self.path / 'below')))
        self.assertFalse(paths.is_shut(str(self.path / 'below')))

    def test_there(self) -> None:
        self.path.touch()
        self.assertTrue(paths.is_there(str(self.path)))
        self.assertFalse(paths.is_shut(str(self.path)))

    def test_link_to_nowhere(self) -> None:
        self.path.symlink_to('nowhere')
        self.assertTrue(paths.is_there(str(self.path)))

    def test_directory_that_lets_nobody_pass(self) -> None:
        with Denied(self.directory):
            # Whether there is a file or not.
            self.assertRaises(OSError, paths.is_there, str(self.path))
            self.assertTrue(paths.is_shut(str(self.path)))

    def test_file_that_this_user_may_not_read(self) -> None:
        """The kernel goes by the real user there, whom no test changes."""
        self.path.touch()
        with fixtures.MockPatchObject(os, 'access', return_value=False):
            self.assertTrue(paths.is_there(str(self.path)))
            self.assertTrue(paths.is_shut(str(self.path)))
