# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.ownership import Kind
from nova_snapshot_driver.snapshot.capture.environment import Environment


class CommandTest(testtools.TestCase):
    """A command is alone with its host, which is never busy."""

    def setUp(self) -> None:
        super().setUp()
        self.environment = Environment()

    def test_operations_beside_each_other(self) -> None:
        with (
            self.environment.disk_operation(Cancellation()),
            self.environment.disk_operation(Cancellation()),
        ):
            pass

    def test_error_inside_comes_out(self) -> None:
        with (
            testtools.ExpectedException(KeyError),
            self.environment.disk_operation(Cancellation()),
        ):
            raise KeyError

    def test_claimed_file_is_as_it_was(self) -> None:
        root = self.useFixture(fixtures.TempDir()).path
        file = pathlib.Path(root) / 'delta'
        file.write_text('delta')
        before = os.stat(file)
        inode = self.environment.claim(str(file), Kind.FILE, (os.geteuid(),))
        self.assertEqual(Inode.of(before), inode)
        self.assertEqual(before, os.stat(file))
        self.assertEqual('delta', file.read_text())

    def test_claimed_file_is_a_link(self) -> None:
        """A command of root's would read what nobody else may."""
        root = self.useFixture(fixtures.TempDir()).path
        link = pathlib.Path(root) / 'delta'
        link.symlink_to('/etc/shadow')
        error = self.assertRaises(
            exception.ClaimRefused,
            self.environment.claim,
            *(str(link), Kind.FILE, (os.geteuid(),)),
        )
        self.assertEqual(str(link), error.fields['path'])
        self.assertIn('symbolic link', error.fields['reason'])

    def test_link_is_not_entrusted(self) -> None:
        root = self.useFixture(fixtures.TempDir()).path
        link = pathlib.Path(root) / 'link'
        link.symlink_to(root)
        self.assertRaises(
            OSError, self.environment.entrust, str(link), os.geteuid()
        )
