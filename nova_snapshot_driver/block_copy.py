# SPDX-License-Identifier: Apache-2.0
"""A block job that copies a disk."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from typing import Any
from typing import NoReturn

import libvirt

from nova_snapshot_driver import domain
from nova_snapshot_driver import exception
from nova_snapshot_driver import undo
from nova_snapshot_driver.libvirt_errors import translated

if TYPE_CHECKING:
    from nova_snapshot_driver.guest import Guest

#: How often a job is looked at, in seconds.
POLL_INTERVAL = 0.5

#: How long the event of a job that is gone is waited for, in seconds.
LATE_EVENT = 5

#: How often it is looked whether an event has come, in seconds. The guest's
#: file systems may stand still meanwhile.
EVENT_INTERVAL = 0.01


@dataclasses.dataclass(frozen=True)
class CopyProgress:
    """How far the copy of a disk is, in bytes."""

    done: int
    total: int
    ready: bool


class BlockCopy:
    """A block job that copies a disk, and what became of it.

    The job's end is read from its event. That the job is gone says nothing:
    one that failed for want of space is gone too.
    """

    def __init__(self, guest: Guest, disk: domain.Disk, timeout: int) -> None:
        self._guest = guest
        self._disk = disk
        self._timeout = timeout
        self._status: int | None = None

    @classmethod
    @contextlib.contextmanager
    def watched(
        cls, guest: Guest, handle: Any, disk: domain.Disk, timeout: int
    ) -> Iterator[BlockCopy]:
        """A job that is about to be started, with an ear on its events."""
        copy = cls(guest, disk, timeout)
        connection = handle.connect()
        with translated(guest.name, 'listen to block jobs'):
            listener = connection.domainEventRegisterAny(
                handle,
                libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                copy._heard,
                None,
            )

        def stop_listening() -> None:
            with translated(guest.name, 'stop to listen to block jobs'):
                try:
                    connection.domainEventDeregisterAny(listener)
                except libvirt.libvirtError as error:
                    # So says libvirt where it was heard the first time.
                    is_gone = (
                        error.get_error_code() == libvirt.VIR_ERR_INVALID_ARG
                    )
                    # It has gone with the connection.
                    if not is_gone and connection.isAlive():
                        raise

        try:
            yield copy
        finally:
            # A listener that stays is in the way of the next one.
            undo.surely(
                guest.name,
                'stop to listen to block jobs',
                stop_listening,
                'Restart the service or the command that took the snapshot.',
            )

    def _heard(
        self,
        _connection: Any,
        _handle: Any,
        target: str,
        _type: int,
        status: int,
        _opaque: Any,
    ) -> None:
        # libvirt's own thread calls it. In a nova-compute on eventlet that
        # thread can wake no other: it may do no more than this.
        if (
            target == self._disk.target
            and status != libvirt.VIR_DOMAIN_BLOCK_JOB_READY
        ):
            self._status = status

    def progress(self) -> CopyProgress:
        """How far it is.

        :raises MirrorFailed: it has ended by itself
        """
        try:
            job = self._guest.block_job_info(self._disk)
            disk = self._guest.describe().disk(self._disk.target)
        except (exception.DomainNotFound, exception.HypervisorError):
            if self._has_stopped():
                self._fail('the guest has stopped')
            raise
        if not job or disk is None or disk.mirror is None:
            self._fail()
        return CopyProgress(job['cur'], job['end'], disk.mirror.ready)

    def finish(self) -> None:
        """End a copy that is ready: what was copied by now is the view.

        :raises MirrorFailed: the job did not end well
        """
        try:
            self._abort()
        except (exception.DomainNotFound, exception.HypervisorError):
            if self._has_stopped():
                self._fail('the guest has stopped')
            if self._is_gone():
                self._fail()
            raise
        if self._status not in (
            libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED,
            libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED,
        ):
            self._fail()

    def give_up(self) -> None:
        """See that no job is left, however far it came."""
        if not self._is_gone():
            self._abort()

    def _abort(self) -> None:
        self._guest.begin_to_abort_block_job(self._disk)
        deadline = time.monotonic() + self._timeout
        while not self._has_ended_within(POLL_INTERVAL):
            if self._is_gone():
                # Without its event nothing is known of its end.
                self._has_ended_within(LATE_EVENT)
                return
            if time.monotonic() > deadline:
                raise exception.HypervisorTimeout(
                    domain=self._guest.name,
                    operation='ending the copy of the disk',
                    seconds=self._timeout,
                    option='guest_timeout',
                )

    def _has_ended_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._status is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(EVENT_INTERVAL)
        return True

    def _is_gone(self) -> bool:
        if self._status is not None or self._has_stopped():
            return True
        return self._guest.block_job(self._disk) is None

    def _has_stopped(self) -> bool:
        try:
            return not self._guest.is_active()
        except exception.DomainNotFound:
            return True

    def _fail(self, reason: str = 'the block job failed') -> NoReturn:
        raise exception.MirrorFailed(
            domain=self._guest.name, disk=self._disk.target, reason=reason
        )
