# SPDX-License-Identifier: Apache-2.0
"""Agents that may freeze or may not, and file systems that are frozen."""

from __future__ import annotations

import libvirt

from lab.options import GuestOptions
from lab.options import Shape
from nova_snapshot_driver import exception
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from tests.functional import base

PATHS = ('backup', 'mirror', 'cold')


class AgentTest(base.SnapshotTest):
    """The agent is a real one, and so is its answer."""

    options = GuestOptions('agent', Shape.QCOW2)

    def take(self, path: str = 'auto', quiesce: str = 'auto') -> Snapshot:
        snapshot, image = self.snapshot(
            self.driver(method=path, quiesce=quiesce)
        )
        self.examine(image, 1)
        self.guest.still_counts()
        return snapshot

    def is_refused(self, reason: str, path: str = 'auto') -> None:
        error = self.snapshot_fails(
            exception.QuiesceFailed,
            self.driver(method=path, quiesce='require'),
        )
        self.assertIn(reason, str(error))

    def restart(self, *refusing: str) -> None:
        self.guest.restart_agent(refusing)
        self.addCleanup(self.guest.restart_agent)

    def test_counts_what_it_freezes(self) -> None:
        for path in PATHS:
            snapshot = self.take(path, 'require')
            self.assertTrue(snapshot.quiesced)
            self.assertEqual(1, snapshot.quiesced_file_systems)

    def test_tells_no_time(self) -> None:
        self.restart('guest-get-time', 'guest-get-fsinfo')
        for path in PATHS:
            self.assertTrue(self.take(path, 'require').quiesced)

    def test_may_not_freeze(self) -> None:
        self.restart('guest-fsfreeze-freeze', 'guest-fsfreeze-thaw')
        reason = 'guest-fsfreeze-freeze has been disabled'
        for path in PATHS:
            snapshot = self.take(path)
            self.assertFalse(snapshot.quiesced)
            self.assertEqual(0, snapshot.quiesced_file_systems)
            self.assertIn(reason, snapshot.quiesced_reason)
            self.is_refused(reason, path)

    def test_frozen_by_somebody_else(self) -> None:
        """A freeze of somebody else stays, as there is a reason for it."""
        image = self.output / 'image'
        self.guest.agent_command('guest-fsfreeze-freeze')
        try:
            snapshot = self.driver().snapshot_to_file(
                Instance(self.guest.name), str(image)
            )
            self.assertTrue(self.guest.frozen())
            self.assertRaises(
                exception.QuiesceFailed,
                self.driver(quiesce='require').snapshot_to_file,
                Instance(self.guest.name),
                str(self.output / 'other'),
            )
            self.assertTrue(self.guest.frozen())
        finally:
            self.guest.agent_command('guest-fsfreeze-thaw')
        self.assertFalse(snapshot.quiesced)
        self.assertEqual(0, snapshot.quiesced_file_systems)
        self.assertIn('frozen state', snapshot.quiesced_reason)
        self.guest.still_counts()

    def test_frozen_by_somebody_else_just_before(self) -> None:
        """The agent has been asked by then, and has answered."""

        def freeze() -> None:
            self.guest.agent_command('guest-fsfreeze-freeze')

        self.addCleanup(self.guest.agent_command, 'guest-fsfreeze-thaw')
        with self.meanwhile('fsFreeze', freeze) as connection:
            snapshot = self.driver(connection).snapshot_to_file(
                Instance(self.guest.name), str(self.output / 'image')
            )
        self.assertFalse(snapshot.quiesced)
        self.assertTrue(self.guest.frozen())


class NothingToFreezeTest(base.SnapshotTest):
    """The agent answers, and has no file system on a disk."""

    options = GuestOptions('nothing', Shape.QCOW2)

    def test_nothing_is_quiesced(self) -> None:
        self.guest.agent_exec('killall witness; sleep 1; umount /data')
        self.assertEqual([], self.guest.domain.fsInfo())
        for path in PATHS:
            snapshot, _image = self.snapshot(self.driver(method=path))
            self.assertFalse(snapshot.quiesced)
            self.assertEqual(0, snapshot.quiesced_file_systems)
            self.assertIn('no file system', snapshot.quiesced_reason)
            error = self.snapshot_fails(
                exception.QuiesceFailed,
                self.driver(method=path, quiesce='require'),
            )
            self.assertIn('no file system', str(error))
        self.assertEqual(
            libvirt.VIR_DOMAIN_RUNNING, self.guest.domain.state()[0]
        )
