# SPDX-License-Identifier: Apache-2.0
"""A backup job: the content of disks at the instant of its begin."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import NoReturn

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.wait import Limit
from nova_snapshot_driver.hypervisor import backup_xml
from nova_snapshot_driver.hypervisor import checkpoint_xml
from nova_snapshot_driver.hypervisor.backup_xml import Place
from nova_snapshot_driver.hypervisor.bindings import libvirt
from nova_snapshot_driver.hypervisor.checkpoint_xml import UNTRACKED
from nova_snapshot_driver.hypervisor.checkpoint_xml import Tracking
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.libvirt_errors import with_free_names

#: The errors of a read whose export is gone.
UNREADABLE = (exception.CommandFailed, exception.SourceUnreadable)

#: How long the end of a job is looked for whose export is gone, and how often,
#: in seconds.
END_TIMEOUT = 3.0
END_INTERVAL = 0.1

#: How long a snapshot that has all of its data waits for the end of the job,
#: in seconds. It takes some hundredths of one.
PROMPTLY = Limit(2.0)

#: The undo of the job, in words.
END = 'end the backup job'


class BackupJob:
    """A backup job in pull mode, which QEMU exports by NBD.

    While it runs, QEMU keeps in scratch files what the guest overwrites.
    Abortion is its normal end. Source: ``virDomainBackupBegin``.

    :param place: of its files
    :param limit: in which it must end when told to
    :param tracking: the bitmaps that it begins from, and begins; libvirt
        knows the former already
    """

    def __init__(
        self,
        guest: Guest,
        disks: Sequence[Disk],
        place: Place,
        limit: Limit,
        tracking: Tracking = UNTRACKED,
    ) -> None:
        self._guest = guest
        self._disks = disks
        self._place = place
        self._limit = limit
        self._tracking = tracking

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The job runs for as long as the context is on.

        What was read inside is complete, whatever becomes of the job then:
        QEMU serves no byte of an export whose job has ended.

        :raises BackupRefused: libvirt does not begin it
        :raises ChangesUntracked: libvirt does not begin it with these bitmaps
        :raises BackupFailed: it has ended before all was read
        :raises UndoFailed: it does not end; at once where all was read
        """
        with contextlib.ExitStack() as failed:
            failed.callback(self._surely, self._limit)
            self._begin()
            try:
                yield
            except UNREADABLE as error:
                if self._has_ended():
                    self._fail_early(error)
                raise
            failed.pop_all()
        self._end_promptly()

    def _begin(self) -> None:
        base, new = self._tracking.base, self._tracking.new
        job = backup_xml.document(self._disks, self._place, base)
        checkpoint = None if new is None else checkpoint_xml.of_new(new)
        try:
            with self._guest.calling('begin the backup job') as handle:
                with_free_names(
                    lambda: handle.backupBegin(job, checkpoint, self._flags())
                )
        except exception.HypervisorError as error:
            raise self._refusal(error.fields['reason']) from error

    def _refusal(self, reason: str) -> exception.SnapshotError:
        if self._tracking == UNTRACKED:
            return exception.BackupRefused(
                domain=self._guest.name, reason=reason
            )
        # A job without them may still be begun.
        return exception.ChangesUntracked(
            domain=self._guest.name, disk=self._tracking.disks, reason=reason
        )

    def _flags(self) -> int:
        if all(disk.secret is None for disk in self._disks):
            return 0
        return int(libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL)

    def _end_promptly(self) -> None:
        try:
            with undo.under_way():
                self._end(PROMPTLY)
        except exception.HypervisorTimeout as error:
            # A snapshot that has all of its data is not to wait any longer.
            raise exception.UndoFailed(
                domain=self._guest.name,
                undo=END,
                reason=f'it is still there after {PROMPTLY.seconds:.0f} s',
                remedy=self._remedy(),
            ) from error
        except exception.SnapshotError:
            # libvirtd may be about to be started again.
            self._surely(PROMPTLY)

    def _surely(self, limit: Limit) -> None:
        undo.retry_undo(
            self._guest.name, END, lambda: self._end(limit), self._remedy()
        )

    def _end(self, limit: Limit) -> None:
        if self._runs():
            self._guest.jobs.end_backup(limit)

    def _remedy(self) -> str:
        return f'End it with "virsh domjobabort {self._guest.name}".'

    def _has_ended(self) -> bool:
        """Whether the job is over, or will be at once.

        The export of a guest that stops is gone before libvirt has seen that
        the guest is.
        """
        return wait.holds_within(
            lambda: not self._runs(), END_TIMEOUT, interval=END_INTERVAL
        )

    def _runs(self) -> bool:
        try:
            return self._guest.jobs.backup_socket() == self._place.socket
        except exception.DomainNotFound:
            return False

    def _fail_early(self, cause: Exception) -> NoReturn:
        reason = 'somebody has ended it'
        if self._guest.has_stopped():
            reason = 'the guest has stopped'
        raise exception.BackupFailed(
            domain=self._guest.name,
            disk=', '.join(disk.target for disk in self._disks),
            reason=reason,
        ) from cause
