# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib

import fixtures
import testtools

from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.surroundings import Surroundings


class CommandTest(testtools.TestCase):
    """A command is alone with its host, which is never busy."""

    def setUp(self) -> None:
        super().setUp()
        self.surroundings = Surroundings()

    def test_operations_beside_each_other(self) -> None:
        with (
            self.surroundings.disk_operation(Cancellation()),
            self.surroundings.disk_operation(Cancellation()),
        ):
            pass

    def test_error_inside_comes_out(self) -> None:
        with (
            testtools.ExpectedException(KeyError),
            self.surroundings.disk_operation(Cancellation()),
        ):
            raise KeyError

    def test_claimed_file_is_as_it_was(self) -> None:
        root = self.useFixture(fixtures.TempDir()).path
        file = pathlib.Path(root) / 'delta'
        file.write_text('delta')
        before = os.stat(file)
        self.surroundings.claim(str(file))
        self.assertEqual(before, os.stat(file))
        self.assertEqual('delta', file.read_text())
