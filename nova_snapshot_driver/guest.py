# SPDX-License-Identifier: Apache-2.0
"""One libvirt domain, and the connection it is reached by.

This is the only module that knows libvirt. Its methods raise
``exception.HypervisorError`` for what libvirt refuses, and
``exception.DomainNotFound`` for a domain that is not there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
from typing import Any
from typing import NoReturn

import libvirt
from oslo_log import log as logging

from nova_snapshot_driver import domain
from nova_snapshot_driver import exception
from nova_snapshot_driver import undo
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.plan import PowerState

LOG = logging.getLogger(__name__)

#: How often a state that has no event is looked at, in seconds.
POLL_INTERVAL = 0.5

#: How long the event of a block job that is gone is waited for, in seconds.
LATE_EVENT = 5

#: How long a managed save may take to end once it is aborted, in seconds.
ABORT_TIMEOUT = 60

#: How long a device is waited for that the guest did not release in time, or
#: may be about to, in seconds.
LATE_RELEASE = 10

#: Since this version undefine can keep the state of a vTPM.
KEEP_TPM_VERSION = 8_009_000

_POWER_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.SHUT_OFF,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.SHUT_OFF,
}

_BLOCK_JOB_NAMES = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL: 'pull',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY: 'copy',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT: 'commit',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT: 'active commit',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP: 'backup',
}


@contextlib.contextmanager
def _calling(name: str, operation: str) -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            raise exception.DomainNotFound(domain=name) from error
        raise exception.HypervisorError(
            domain=name,
            operation=operation,
            reason=error.get_error_message() or str(error),
        ) from error


class Host:
    """The hypervisor of this host.

    :param connection: a ``virConnect`` whose process runs libvirt's event
        loop, which the end of a block job is read from
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    @contextlib.contextmanager
    def open(cls, uri: str) -> Iterator[Host]:
        """A connection of our own, with its event loop.

        :param uri: libvirt's URI; empty is ``qemu:///system``
        :raises ConnectionFailed: nobody answers there
        """
        uri = uri or 'qemu:///system'
        _run_event_loop()
        try:
            connection = libvirt.open(uri)
        except libvirt.libvirtError as error:
            raise exception.ConnectionFailed(
                uri=uri, reason=error.get_error_message() or str(error)
            ) from error
        try:
            yield cls(connection)
        finally:
            connection.close()

    def libvirt_version(self) -> int:
        """As libvirt counts: 9.1.2 is 9001002."""
        with _calling('-', 'read the version of libvirt'):
            return int(self._connection.getLibVersion())

    def qemu_version(self) -> int:
        """As libvirt counts: 7.2.22 is 7002022."""
        with _calling('-', 'read the version of QEMU'):
            return int(self._connection.getVersion())

    def guest(self, name: str) -> Guest:
        """The guest of a domain.

        :param name: the domain's name or its UUID
        :raises DomainNotFound: there is none
        """
        with _calling(name, 'look up'):
            try:
                found = self._connection.lookupByName(name)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
                try:
                    found = self._connection.lookupByUUIDString(name)
                except libvirt.libvirtError as other:
                    # Not even the shape of a UUID: what was meant is a name.
                    if other.get_error_code() == libvirt.VIR_ERR_INVALID_ARG:
                        raise error from other
                    raise
            return Guest(self, found)

    def define(self, definition: Definition) -> None:
        """Make a domain persistent, or define it anew."""
        with _calling(definition.name, 'define'):
            defined = self._connection.defineXML(definition.xml)
            if definition.autostart:
                defined.setAutostart(True)


@dataclasses.dataclass(frozen=True)
class Definition:
    """What makes a domain persistent.

    :ivar xml: the inactive document, with the secrets in it
    """

    name: str
    uuid: str
    xml: str
    autostart: bool


@dataclasses.dataclass(frozen=True)
class CopyProgress:
    """How far the copy of a disk is, in bytes."""

    done: int
    total: int
    ready: bool


class Guest:
    """A domain, as something that can be snapshotted."""

    def __init__(self, host: Host, handle: Any) -> None:
        self._host = host
        self._handle = handle
        self.name: str = handle.name()
        self.uuid: str = handle.UUIDString()

    def _calling(
        self, operation: str
    ) -> contextlib.AbstractContextManager[None]:
        return _calling(self.name, operation)

    # What it is

    def power_state(self) -> PowerState:
        """Its state.

        :raises NotSupported: it is on the way from one state to another
        """
        with self._calling('read the state'):
            state, _reason = self._handle.state()
            saved = self._handle.hasManagedSaveImage()
        if saved and state == libvirt.VIR_DOMAIN_SHUTOFF:
            return PowerState.SUSPENDED
        try:
            return _POWER_STATES[state]
        except KeyError:
            raise exception.NotSupported(
                domain=self.name,
                reason='it is shutting down, or suspended by its own power '
                'management.',
            ) from None

    def is_active(self) -> bool:
        with self._calling('read the state'):
            return bool(self._handle.isActive())

    def describe(self) -> domain.Domain:
        """The live description of an active domain, else the inactive."""
        with self._calling('read the XML'):
            return domain.parse(self._handle.XMLDesc())

    def persistent(self) -> bool:
        with self._calling('read the persistence'):
            return bool(self._handle.isPersistent())

    def allocated_bytes(self, disk: domain.Disk) -> int:
        """How much of its storage the topmost image of a disk takes."""
        with self._calling('read the size of the disk'):
            _capacity, allocation, _physical = self._handle.blockInfo(
                disk.target
            )
        return int(allocation)

    def capacity(self, disk: domain.Disk) -> int:
        """The size in bytes of a disk, as the guest sees it."""
        with self._calling('read the size of the disk'):
            capacity, _allocation, _physical = self._handle.blockInfo(
                disk.target
            )
        return int(capacity)

    # Its definition

    def definition(self) -> Definition:
        """All that is needed to define it again."""
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        with self._calling('read the definition'):
            return Definition(
                name=self.name,
                uuid=self.uuid,
                xml=self._handle.XMLDesc(flags),
                autostart=bool(self._handle.autostart()),
            )

    def undefine(self) -> None:
        """Make it transient; its NVRAM and the state of its vTPM stay."""
        flags = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        if self._host.libvirt_version() >= KEEP_TPM_VERSION:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
        with self._calling('undefine'):
            self._handle.undefineFlags(flags)

    def define(self, definition: Definition) -> None:
        """Make it persistent again, whether it still runs or not."""
        self._host.define(definition)

    def set_autostart(self, autostart: bool) -> None:
        with self._calling('set the autostart'):
            self._handle.setAutostart(autostart)

    # Block jobs

    def block_job(self, disk: domain.Disk) -> str | None:
        """What kind of block job the disk has; None where it has none."""
        with self._calling('read the block job'):
            job = self._handle.blockJobInfo(disk.target)
        if not job:
            return None
        return _BLOCK_JOB_NAMES.get(job['type'], f'type {job["type"]}')

    def abort_block_job(self, disk: domain.Disk, timeout: int) -> None:
        """End a block job, whatever it is, and see that it is gone."""
        with self._calling('abort the block job'):
            self._handle.blockJobAbort(
                disk.target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC
            )
        self._wait_until(
            lambda: self.block_job(disk) is None,
            'aborting the block job',
            timeout,
            Cancellation(),
        )

    @contextlib.contextmanager
    def copying(
        self, disk: domain.Disk, target: str, timeout: int
    ) -> Iterator[BlockCopy]:
        """Copy the topmost image of a disk for as long as the context is on.

        The domain must be transient. Source: ``virDomainBlockRebase`` with
        COPY, REUSE_EXT and SHALLOW.

        :param target: a qcow2 file with the backing file of the disk
        :param timeout: the seconds in which the job must end when told to
        """
        flags = (
            libvirt.VIR_DOMAIN_BLOCK_REBASE_COPY
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_SHALLOW
        )
        with BlockCopy.watched(self, self._handle, disk, timeout) as copy:
            try:
                with self._calling('start the copy of the disk'):
                    self._handle.blockRebase(disk.target, target, 0, flags)
                yield copy
            finally:
                undo.surely(
                    self.name,
                    'end the copy of the disk',
                    copy.give_up,
                    'End it with "virsh blockjob '
                    f'{self.name} {disk.target} --abort".',
                )

    # The guest agent

    @contextlib.contextmanager
    def agent_timeout(self, seconds: int) -> Iterator[None]:
        """Bound every answer of the agent; libvirt itself waits for ever."""
        with self._calling('set the timeout of the agent'):
            self._handle.agentSetResponseTimeout(seconds, 0)
        try:
            yield
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                self._handle.agentSetResponseTimeout(
                    libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0
                )

    def ping_agent(self) -> None:
        """Ask the agent for something small (``guest-get-time``)."""
        with self._calling('ask the guest agent'):
            self._handle.getTime()

    def freeze(self) -> None:
        with self._calling('freeze the file systems'):
            self._handle.fsFreeze()

    def thaw(self) -> None:
        with self._calling('thaw the file systems'):
            self._handle.fsThaw()

    # Suspending

    def managed_save(self, timeout: int, cancellation: Cancellation) -> None:
        """Save the guest's memory and stop it, as ``virsh managedsave``.

        :raises HypervisorTimeout: it took longer; the guest runs on
        """
        saving = _in_background(lambda: self._handle.managedSave(0))
        try:
            self._wait_until(
                saving.done, 'managed save', timeout, cancellation
            )
        except exception.SnapshotError:
            with contextlib.suppress(libvirt.libvirtError):
                self._handle.abortJob()
            futures.wait([saving], ABORT_TIMEOUT)
            raise
        with self._calling('managed save'):
            saving.result()

    def bring_back(self, power_state: PowerState) -> None:
        """Have it running or paused again, after a managed save or instead.

        A guest that has stopped by itself meanwhile stays so.
        """
        paused = power_state is PowerState.PAUSED
        flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
        match self.power_state():
            case PowerState.SUSPENDED:
                with self._calling('start'):
                    self._handle.createWithFlags(flags)
            case PowerState.PAUSED if not paused:
                with self._calling('resume'):
                    self._handle.resume()

    # Devices of the host

    def detach(
        self,
        device: domain.HostDevice,
        timeout: int,
        cancellation: Cancellation,
    ) -> None:
        """Take a device away, and wait until the guest has let it go.

        :raises DeviceNotReleased: the guest did not
        """
        with self._calling(f'detach the device {device.alias}'):
            self._handle.detachDeviceAlias(
                device.alias, libvirt.VIR_DOMAIN_AFFECT_LIVE
            )
        try:
            self._wait_until(
                lambda: not self._has_device(device),
                f'detaching the device {device.alias}',
                timeout,
                cancellation,
            )
        except exception.HypervisorTimeout:
            raise exception.DeviceNotReleased(
                domain=self.name, device=device.alias, seconds=timeout
            ) from None

    def attach(self, device: domain.HostDevice, timeout: int) -> None:
        """Give a device back that was asked for, whether it came or not.

        :param timeout: the seconds in which the guest may still let it go: a
            request to do so can't be taken back
        """
        with contextlib.suppress(exception.HypervisorTimeout):
            self._wait_until(
                lambda: not self._has_device(device),
                f'detaching the device {device.alias}',
                min(timeout, LATE_RELEASE),
                Cancellation(),
            )
            with self._calling(f'attach the device {device.alias}'):
                self._handle.attachDeviceFlags(
                    device.xml, libvirt.VIR_DOMAIN_AFFECT_LIVE
                )

    def _has_device(self, device: domain.HostDevice) -> bool:
        return device.identity in (
            present.identity for present in self.describe().host_devices
        )

    def _wait_until(
        self,
        condition: Callable[[], bool],
        operation: str,
        timeout: int,
        cancellation: Cancellation,
        option: str = 'guest_timeout',
    ) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise exception.HypervisorTimeout(
                    domain=self.name,
                    operation=operation,
                    seconds=timeout,
                    option=option,
                )
            cancellation.sleep(POLL_INTERVAL)


class BlockCopy:
    """A block job that copies a disk, and what became of it.

    The job's end is read from its event. That the job is gone says nothing:
    one that failed for want of space is gone too.
    """

    def __init__(
        self, guest: Guest, handle: Any, disk: domain.Disk, timeout: int
    ) -> None:
        self._guest = guest
        self._handle = handle
        self._disk = disk
        self._timeout = timeout
        self._ended = threading.Event()
        self._status: int | None = None

    @classmethod
    @contextlib.contextmanager
    def watched(
        cls, guest: Guest, handle: Any, disk: domain.Disk, timeout: int
    ) -> Iterator[BlockCopy]:
        """A job that is about to be started, with an ear on its events."""
        copy = cls(guest, handle, disk, timeout)
        connection = handle.connect()
        with _calling(guest.name, 'listen to block jobs'):
            listener = connection.domainEventRegisterAny(
                handle,
                libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                copy._heard,
                None,
            )

        def stop_listening() -> None:
            with _calling(guest.name, 'stop to listen to block jobs'):
                try:
                    connection.domainEventDeregisterAny(listener)
                except libvirt.libvirtError as error:
                    # So says libvirt where it was heard the first time.
                    if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
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
        if (
            target == self._disk.target
            and status != libvirt.VIR_DOMAIN_BLOCK_JOB_READY
        ):
            self._status = status
            self._ended.set()

    def progress(self) -> CopyProgress:
        """How far it is.

        :raises MirrorFailed: it has ended by itself
        """
        try:
            with _calling(self._guest.name, 'read the block job'):
                job = self._handle.blockJobInfo(self._disk.target)
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
        with _calling(self._guest.name, 'end the copy of the disk'):
            self._handle.blockJobAbort(
                self._disk.target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC
            )
        deadline = time.monotonic() + self._timeout
        while not self._ended.wait(POLL_INTERVAL):
            if self._is_gone():
                # Without its event nothing is known of its end.
                self._ended.wait(LATE_EVENT)
                return
            if time.monotonic() > deadline:
                raise exception.HypervisorTimeout(
                    domain=self._guest.name,
                    operation='ending the copy of the disk',
                    seconds=self._timeout,
                    option='guest_timeout',
                )

    def _is_gone(self) -> bool:
        if self._ended.is_set() or self._has_stopped():
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


def _in_background(call: Callable[[], object]) -> futures.Future[object]:
    """Start a call that libvirt may not return from in time."""
    future: futures.Future[object] = futures.Future()

    def work() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


_event_loop_lock = threading.Lock()
_event_loop_runs = False


def _run_event_loop() -> None:
    """Run libvirt's event loop in a thread, once for the whole process."""
    global _event_loop_runs
    with _event_loop_lock:
        if _event_loop_runs:
            return
        libvirt.virEventRegisterDefaultImpl()
        # libvirt prints every error to stderr, unless it is told where to.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        threading.Thread(
            target=_event_loop, name='libvirt-events', daemon=True
        ).start()
        _event_loop_runs = True


def _event_loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
