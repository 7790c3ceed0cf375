# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib
import stat

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.state.cancel_request import CancelRequest
from nova_snapshot_driver.state.journal import Journal
from tests.unit import documents
from tests.unit.denied import Denied


class CancelRequestTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.log = self.useFixture(fixtures.FakeLogger())
        self.request = CancelRequest(str(self.directory), documents.UUID)

    def test_not_made(self) -> None:
        self.assertFalse(self.request.is_open())
        self.assertIsNone(self.request.consume())
        self.request.withdraw()

    def test_heeded_once(self) -> None:
        self.request.make()
        self.assertTrue(self.request.is_open())
        other = CancelRequest(str(self.directory), documents.UUID)
        self.assertIsInstance(other.consume(), exception.CancelledByOperator)
        self.assertFalse(self.request.is_open())
        self.assertEqual([], os.listdir(self.directory))
        self.assertIsNone(other.consume())

    def test_another_domain(self) -> None:
        self.request.make()
        other = CancelRequest(str(self.directory), 'another')
        self.assertIsNone(other.consume())
        self.assertTrue(self.request.is_open())

    def test_mode(self) -> None:
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)
        self.request.make()
        (path,) = self.directory.iterdir()
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))

    def test_withdrawn(self) -> None:
        self.request.make()
        self.request.withdraw()
        self.assertIsNone(self.request.consume())

    def test_not_meant_for_the_next_snapshot(self) -> None:
        self.request.make()
        with Journal(str(self.directory)).exclusive(documents.UUID, '-'):
            self.assertIsNone(self.request.consume())

    def test_can_not_be_made(self) -> None:
        missing = CancelRequest(str(self.directory / 'missing'), 'a')
        error = self.assertRaises(exception.DirectoryUnusable, missing.make)
        self.assertIn('[snapshot] state_directory', str(error))

    def test_nobody_can_tell(self) -> None:
        """The snapshot goes on; whoever asks is not told that it has ended."""
        self.request.make()
        with Denied(self.directory):
            self.assertRaises(exception.StateUnreadable, self.request.is_open)
            for _ in range(2):
                self.assertIsNone(self.request.consume())
        self.assertEqual(1, self.log.output.count('can not stop'))
        self.assertTrue(self.request.is_open())
