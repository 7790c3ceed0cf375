# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a guest by every method, in every state."""

from __future__ import annotations

from lab.bounded import wait_until
from lab.evidence import Evidence
from nova_snapshot_driver import exception
from nova_snapshot_driver.snapshot.result import Snapshot
from tests.functional import base

#: Seconds for which an agent hangs, longer than a live snapshot takes.
HANG = 8

#: MiB that the guest itself writes into the topmost image.
OVERLAY_FILL = 8


class Matrix(base.SnapshotTest):
    """For a guest with an agent or without.

    Its disk has the guest's own data in the topmost image, too.
    """

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if cls.options.agent:
            cls.guest.write_fill(OVERLAY_FILL)

    def test_backup(self) -> None:
        self._is_live('backup')

    def test_mirror(self) -> None:
        self._is_live('mirror')

    def _is_live(self, path: str) -> None:
        snapshot, evidence = taken(self, path)
        self.assertIs(self.options.agent, snapshot.quiesced)
        # A file system that was frozen has nothing in its journal.
        self.assertIs(snapshot.quiesced, not evidence.journal_replayed)
        self.guest.still_counts()

    def test_cold(self) -> None:
        snapshot, evidence = taken(self, 'cold')
        self.assertIs(self.options.agent, snapshot.quiesced)
        self.assertIs(snapshot.quiesced, not evidence.journal_replayed)
        self.guest.still_counts()

    def test_live_paused(self) -> None:
        self.guest.domain.suspend()
        self.addCleanup(self.guest.still_counts)
        self.addCleanup(self.guest.domain.resume)
        for path in ('backup', 'mirror'):
            snapshot, _evidence = taken(self, path)
            self.assertFalse(snapshot.quiesced)
            self.assertTrue(self.guest.paused)

    def test_cold_paused(self) -> None:
        self.guest.domain.suspend()
        self.addCleanup(self.guest.still_counts)
        self.addCleanup(lambda: self.guest.domain.resume())
        snapshot, _evidence = taken(self, 'cold')
        self.assertFalse(snapshot.quiesced)
        self.assertTrue(self.guest.paused)

    def test_shut_off(self) -> None:
        last = self.guest.ticks.last
        self.guest.shutdown()
        self.addCleanup(self.guest.boot)
        snapshot, image = self.snapshot(self.driver())
        self.assertEqual('cold', snapshot.method)
        self.assertTrue(snapshot.streamed)
        evidence = self.examine(image, last)
        self.assertFalse(evidence.journal_replayed)
        self.assertFalse(self.guest.running)

    def test_suspended(self) -> None:
        last = self.guest.ticks.last
        self.guest.domain.managedSave()
        self.addCleanup(self.guest.still_counts)
        self.addCleanup(lambda: self.guest.domain.create())
        snapshot, image = self.snapshot(self.driver())
        self.assertEqual('the guest is suspended', snapshot.method_reason)
        self.examine(image, last)


class WithHangingAgent(Matrix):
    def test_backup_hanging_agent(self) -> None:
        self._ignores_hanging_agent('backup')

    def test_mirror_hanging_agent(self) -> None:
        self._ignores_hanging_agent('mirror')

    def test_cold_hanging_agent(self) -> None:
        self._ignores_hanging_agent('cold')

    def _ignores_hanging_agent(self, path: str) -> None:
        hang_agent(self)
        snapshot, _evidence = taken(self, path)
        self.assertFalse(snapshot.quiesced)
        self.guest.still_counts()


class WithoutAgent(Matrix):
    def test_required(self) -> None:
        for path in ('backup', 'mirror', 'cold'):
            driver = self.driver(method=path, quiesce='require')
            self.snapshot_fails(exception.QuiesceFailed, driver)
        self.guest.still_counts()


def taken(test: base.SnapshotTest, path: str) -> tuple[Snapshot, Evidence]:
    """A snapshot by a path, proven."""
    last = test.guest.ticks.last
    snapshot, image = test.snapshot(test.driver(method=path))
    test.assertEqual(path, snapshot.method)
    return snapshot, test.examine(image, last)


def hang_agent(test: base.SnapshotTest) -> None:
    test.guest.hang_agent(HANG)
    test.addCleanup(wait_for_agent, test)


def wait_for_agent(test: base.SnapshotTest) -> None:
    wait_until(test.guest.agent_answers, 'the agent to go on', 30)
