# SPDX-License-Identifier: Apache-2.0
"""Accidents of a backup job and its reader, and jobs of others."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import libvirt

from lab.bounded import wait_until
from lab.options import GuestOptions
from nova_snapshot_driver import exception
from nova_snapshot_driver.snapshot.plan.instance import Instance
from tests import laws
from tests import processes
from tests.functional import base

#: MiB a second: the image takes far longer than what happens meanwhile.
SLOW = 4


class Once:
    """Does something at the first progress, and never again."""

    def __init__(self, happens: Callable[[], object]) -> None:
        self._happens = happens
        self.done = False

    def __call__(self, step: str, done: int, total: int) -> None:
        if not self.done:
            self.done = True
            self._happens()


class BackupJobTest(base.SnapshotTest):
    options = GuestOptions('job')

    def fails_when(
        self, error: type[exception.SnapshotError], happens: Callable[[], None]
    ) -> exception.SnapshotError:
        """A snapshot fails by what happens while it is read."""
        once = Once(happens)
        raised = self.snapshot_fails(
            error, self.driver(bandwidth=SLOW), progress=once
        )
        self.assertTrue(once.done)
        return raised

    def test_guest_dies(self) -> None:
        before = laws.Before.of(self.connection, self.guest.name)
        self.addCleanup(self.guest.boot)
        error = self.assertRaises(
            exception.BackupFailed,
            self.driver(bandwidth=SLOW).snapshot_to_file,
            Instance(self.guest.name),
            str(self.output / 'image'),
            progress=Once(self.guest.destroy),
        )
        self.assertIn('the guest has stopped', str(error))
        self.assertEqual(
            ['state was running, and is shut off'], self.broken_laws(before)
        )
        self.assertEqual([], list(self.output.iterdir()))

    def test_somebody_ends_it(self) -> None:
        error = self.fails_when(
            exception.BackupFailed, lambda: self.guest.domain.abortJob()
        )
        self.assertIn('somebody has ended it', str(error))
        self.guest.still_counts()

    def test_data_plane_is_killed(self) -> None:
        def kill() -> None:
            pid = processes.data_plane()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

        error = self.fails_when(exception.TransferDied, kill)
        self.assertIn(str(signal.SIGKILL.value), error.fields['status'])
        self.guest.still_counts()

    def test_that_of_somebody_else(self) -> None:
        """A foreign job is left alone, whatever method is asked for."""
        socket = self.directory / 's'
        scratch = self.directory / 'scratch'
        domain = self.guest.domain
        domain.backupBegin(
            "<domainbackup mode='pull'>"
            f"<server transport='unix' socket='{socket}'/>"
            "<disks><disk name='vda' type='file'>"
            f"<scratch file='{scratch}'/></disk></disks></domainbackup>",
            None,
        )
        self.addCleanup(self._end_job)
        job = domain.backupGetXMLDesc()
        for path in ('auto', 'mirror', 'cold'):
            self.assertRaises(
                exception.ForeignJob,
                self.driver(method=path).snapshot_to_file,
                Instance(self.guest.name),
                str(self.output / 'image'),
            )
        self.assertEqual(job, domain.backupGetXMLDesc())
        self.assertTrue(scratch.exists())
        self.guest.still_counts()

    def _end_job(self) -> None:
        self.guest.domain.abortJob()
        wait_until(
            lambda: (
                self.guest.domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE
            ),
            'the end of the job',
            30,
        )

    def test_there_can_be_none(self) -> None:
        """The mirror is taken then, unless a backup job is insisted on."""
        # Longer than what the kernel takes for a socket.
        self.snapshots = self.directory / ('long' * 20)
        last = self.guest.ticks.last
        snapshot, image = self.snapshot(self.driver())
        self.assertEqual('mirror', snapshot.method)
        self.assertIn('too long for a socket', snapshot.method_reason)
        self.examine(image, last)
        self.snapshot_fails(
            exception.BackupRefused, self.driver(method='backup')
        )
        self.guest.still_counts()
