# SPDX-License-Identifier: Apache-2.0
"""A block job that copies a disk."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any
from typing import NoReturn

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.wait import Limit
from nova_snapshot_driver.hypervisor.bindings import libvirt
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.libvirt_errors import translated
from nova_snapshot_driver.hypervisor.libvirt_errors import with_free_names
from nova_snapshot_driver.hypervisor.libvirt_objects import LibvirtObject

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

    :param limit: in which the job must end when told to
    """

    def __init__(self, guest: Guest, disk: Disk, limit: Limit) -> None:
        self._guest = guest
        self._disk = disk
        self._limit = limit
        self._status: int | None = None

    @contextlib.contextmanager
    def running(self, target: str, bandwidth: int) -> Iterator[None]:
        """Copy the topmost image of the disk for as long as the context is on.

        The domain must be transient. Source: ``virDomainBlockRebase`` with
        COPY, REUSE_EXT and SHALLOW.

        :param target: a qcow2 file with the backing file of the disk
        :param bandwidth: in MiB a second; 0 is no limit
        """
        name = self._guest.name
        with self.listening():
            try:
                self._begin(target, bandwidth)
                yield
            finally:
                undo.retry_undo(
                    name,
                    'end the copy of the disk',
                    self.give_up,
                    'End it with "virsh blockjob '
                    f'{name} {self._disk.target} --abort".',
                )

    def _begin(self, target: str, bandwidth: int) -> None:
        flags = (
            libvirt.VIR_DOMAIN_BLOCK_REBASE_COPY
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_SHALLOW
        )
        with self._guest.calling('start the copy of the disk') as handle:
            with_free_names(
                lambda: handle.blockRebase(
                    self._disk.target, target, bandwidth, flags
                )
            )

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Hear the events of the job inside."""
        with self._guest.calling('listen to block jobs') as handle:
            connection = handle.connect()
            listener = connection.domainEventRegisterAny(
                handle,
                libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                self._heard,
                None,
            )
        try:
            yield
        finally:
            # A listener that stays is in the way of the next one.
            undo.retry_undo(
                self._guest.name,
                'stop to listen to block jobs',
                lambda: self._stop_listening(connection, listener),
                'Restart the service or the command that took the snapshot.',
            )

    def _stop_listening(
        self, connection: LibvirtObject, listener: int
    ) -> None:
        with translated(self._guest.name, 'stop to listen to block jobs'):
            try:
                connection.domainEventDeregisterAny(listener)
            except libvirt.libvirtError as error:
                # An earlier attempt was heard: libvirt has no such listener.
                is_gone = error.get_error_code() == libvirt.VIR_ERR_INVALID_ARG
                # The listener has gone with a connection that is dead.
                if not is_gone and connection.isAlive():
                    raise

    def _heard(
        self,
        _connection: Any,
        _handle: Any,
        target: str,
        _type: int,
        status: int,
        _opaque: Any,
    ) -> None:
        # libvirt's own thread runs this. In a nova-compute on eventlet that
        # thread can wake no other: all that it may do is to set a variable.
        if (
            target == self._disk.target
            and status != libvirt.VIR_DOMAIN_BLOCK_JOB_READY
        ):
            self._status = status

    def progress(self) -> CopyProgress:
        """How far the copy is.

        :raises MirrorFailed: the copy has ended by itself
        """
        try:
            job = self._guest.jobs.block_job_info(self._disk)
            disk = self._guest.describe().disk(self._disk.target)
        except (exception.DomainNotFound, exception.HypervisorError):
            if self._guest.has_stopped():
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
            # Without its event nothing is known of the end.
            wait.holds_within(
                self._is_heard, LATE_EVENT, interval=EVENT_INTERVAL
            )
        except (exception.DomainNotFound, exception.HypervisorError):
            if self._guest.has_stopped():
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
        self._guest.jobs.abort_block_job(
            self._disk, self._limit, self._is_heard
        )

    def _is_heard(self) -> bool:
        """Whether the event of the job's end has come."""
        return self._status is not None

    def _is_gone(self) -> bool:
        return self._is_heard() or not self._guest.jobs.has_block_job(
            self._disk
        )

    def _fail(self, reason: str = 'the block job failed') -> NoReturn:
        raise exception.MirrorFailed(
            domain=self._guest.name, disk=self._disk.target, reason=reason
        )
