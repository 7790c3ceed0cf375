# SPDX-License-Identifier: Apache-2.0
"""One libvirt domain.

Its methods raise ``exception.HypervisorError`` for what libvirt refuses, and
``exception.DomainNotFound`` for a domain that is not there.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import time
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import libvirt
from oslo_log import log as logging

from nova_snapshot_driver import background
from nova_snapshot_driver import domain
from nova_snapshot_driver import exception
from nova_snapshot_driver import undo
from nova_snapshot_driver.backup_job import BackupJob
from nova_snapshot_driver.backup_job import Place
from nova_snapshot_driver.backup_job import socket_of
from nova_snapshot_driver.block_copy import POLL_INTERVAL
from nova_snapshot_driver.block_copy import BlockCopy
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.libvirt_errors import translated
from nova_snapshot_driver.libvirt_errors import with_free_names

LOG = logging.getLogger(__name__)

#: How long a managed save may take to end once it is aborted, in seconds.
ABORT_TIMEOUT = 60

#: How often it is looked whether a job that was aborted is gone, in seconds.
ABORT_INTERVAL = 0.02

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

_STOPPED_BY_AN_ERROR = (
    libvirt.VIR_DOMAIN_PAUSED,
    libvirt.VIR_DOMAIN_PAUSED_IOERROR,
)

# The error has no code. Source: qemuBackupGetJobInfoStats in libvirt.
_JOB_LOST = 'backup job data missing'

_BLOCK_JOB_NAMES = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL: 'pull',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY: 'copy',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT: 'commit',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT: 'active commit',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP: 'backup',
}


@dataclasses.dataclass(frozen=True)
class Definition:
    """What makes a domain persistent.

    :ivar xml: the inactive document, with the secrets in it
    """

    name: str
    uuid: str
    xml: str
    autostart: bool


def define(connection: Any, definition: Definition) -> None:
    """Make a domain persistent, or define it anew."""
    with translated(definition.name, 'define'):
        defined = connection.defineXML(definition.xml)
        if definition.autostart:
            defined.setAutostart(True)


class Guest:
    """A domain, as something that can be snapshotted.

    :param handle: a ``virDomain``
    :param renew: makes another one of it, where libvirtd was restarted
    """

    def __init__(
        self,
        handle: Any,
        renew: Callable[[Any], Any] = lambda handle: handle,
    ) -> None:
        self._handle = handle
        self._renew = renew
        self.name: str = handle.name()
        self.uuid: str = handle.UUIDString()

    @contextlib.contextmanager
    def _calling(self, operation: str) -> Iterator[None]:
        try:
            with translated(self.name, operation):
                yield
        except exception.HypervisorError:
            # The next call may be the one that gives the guest back.
            self._handle = self._renew(self._handle)
            raise

    # What it is

    def connection_uri(self) -> str:
        """Of the libvirt that has it."""
        with self._calling('read the URI of libvirt'):
            return str(self._handle.connect().getURI())

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

    def capacity(self, disk: domain.Disk) -> int:
        """The size in bytes of a disk, as the guest sees it."""
        with self._calling('read the size of the disk'):
            capacity, _allocation, _physical = self._handle.blockInfo(
                disk.target
            )
        return int(capacity)

    def passphrase(self, disk: domain.Disk) -> str:
        """What an encrypted disk is unlocked with, in base64.

        :raises HypervisorError: libvirt keeps it to itself
        """
        with self._calling('read the secret of the disk'):
            secret = self._handle.connect().secretLookupByUUIDString(
                disk.secret
            )
            return base64.b64encode(secret.value()).decode()

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
        with self._calling('undefine'):
            if self._handle.connect().getLibVersion() >= KEEP_TPM_VERSION:
                flags |= libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
            self._handle.undefineFlags(flags)

    def define(self, definition: Definition) -> None:
        """Make it persistent again, whether it still runs or not."""
        define(self._handle.connect(), definition)

    def set_autostart(self, autostart: bool) -> None:
        with self._calling('set the autostart'):
            self._handle.setAutostart(autostart)

    # Block jobs

    def block_job(self, disk: domain.Disk) -> str | None:
        """What kind of block job the disk has; None where it has none."""
        job = self.block_job_info(disk)
        if not job:
            return None
        return _BLOCK_JOB_NAMES.get(job['type'], f'type {job["type"]}')

    def block_job_info(self, disk: domain.Disk) -> dict[str, int]:
        """As ``virDomainGetBlockJobInfo``; empty where there is none."""
        with self._calling('read the block job'):
            return dict(self._handle.blockJobInfo(disk.target) or {})

    def begin_to_abort_block_job(self, disk: domain.Disk) -> None:
        """Have a block job end, whatever it is, some time."""
        with self._calling('abort the block job'):
            self._handle.blockJobAbort(
                disk.target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC
            )

    def abort_block_job(self, disk: domain.Disk, timeout: int) -> None:
        """The same, and see that it is gone."""
        self.begin_to_abort_block_job(disk)
        self._wait_until(
            lambda: self.block_job(disk) is None,
            'aborting the block job',
            timeout,
            Cancellation(),
        )

    @contextlib.contextmanager
    def copying(
        self, disk: domain.Disk, target: str, timeout: int, bandwidth: int
    ) -> Iterator[BlockCopy]:
        """Copy the topmost image of a disk for as long as the context is on.

        The domain must be transient. Source: ``virDomainBlockRebase`` with
        COPY, REUSE_EXT and SHALLOW.

        :param target: a qcow2 file with the backing file of the disk
        :param timeout: the seconds in which the job must end when told to
        :param bandwidth: in MiB a second; 0 is no limit
        """
        flags = (
            libvirt.VIR_DOMAIN_BLOCK_REBASE_COPY
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_SHALLOW
        )
        with BlockCopy.watched(self, self._handle, disk, timeout) as copy:
            try:
                with self._calling('start the copy of the disk'):
                    with_free_names(
                        lambda: self._handle.blockRebase(
                            disk.target, target, bandwidth, flags
                        )
                    )
                yield copy
            finally:
                undo.surely(
                    self.name,
                    'end the copy of the disk',
                    copy.give_up,
                    'End it with "virsh blockjob '
                    f'{self.name} {disk.target} --abort".',
                )

    # Backup jobs

    def backup_socket(self) -> str | None:
        """That of the backup job that runs; None where none does.

        Empty for a job without one, which is nobody's of this driver.
        """
        with self._calling('read the backup job'):
            try:
                return socket_of(self._handle.backupGetXMLDesc())
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_BACKUP:
                    raise
                return None

    def is_busy(self) -> bool:
        """A job runs on it that libvirt bears no other beside."""
        with self._calling('read the job'):
            kind, *_figures = self._handle.jobInfo()
        return bool(kind != libvirt.VIR_DOMAIN_JOB_NONE)

    def has_lost_job(self) -> bool:
        """Whether libvirt was killed while it began a backup job.

        It remembers that there is one, and no more: the job can't be ended,
        and until the domain is gone there is no other one beside it.
        """
        try:
            self.is_busy()
        except exception.HypervisorError as error:
            if _JOB_LOST in error.fields['reason']:
                return True
            raise
        return False

    def backing_up(
        self, disk: domain.Disk, place: Place, timeout: int
    ) -> contextlib.AbstractContextManager[None]:
        """Export a disk as it is now, for as long as the context is on.

        :param timeout: the seconds in which the job must end when told to
        :raises BackupRefused: libvirt does not begin one
        :raises BackupFailed: the job has ended by itself, or not well
        """
        job = BackupJob(self, self._handle, disk, place, timeout)
        return job.running()

    def abort_job(self, timeout: int) -> None:
        """End the job that runs, and see that it is gone.

        Where the guest has just stopped, libvirt refuses everything until it
        has noticed, half a minute later at times: that is waited for.
        """
        refusal = None
        try:
            with self._calling('abort the job'):
                self._handle.abortJob()
        except exception.HypervisorError as error:
            refusal = error
        self._wait_until(
            lambda: self._has_no_job(refusal),
            'aborting the job',
            timeout,
            Cancellation(),
            ABORT_INTERVAL,
        )

    def _has_no_job(self, refusal: exception.HypervisorError | None) -> bool:
        """
        :param refusal: to end the job that may run
        """
        if not self.is_active():
            return True
        try:
            busy = self.is_busy()
        except exception.HypervisorError:
            return False
        if busy and refusal is not None:
            raise refusal
        return not busy

    def try_again(self) -> None:
        """Let the guest go on if QEMU has stopped it.

        It does so when a write of the guest's own fails, which is repeated.
        """
        with (
            contextlib.suppress(exception.DomainNotFound),
            self._calling('resume'),
        ):
            if tuple(self._handle.state()) == _STOPPED_BY_AN_ERROR:
                LOG.warning(
                    'Domain %s: QEMU has stopped the guest, since a write of '
                    'its own had failed; it is tried again',
                    self.name,
                )
                self._handle.resume()

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

    def freeze(self) -> int:
        """
        :returns: how many file systems are frozen
        """
        with self._calling('freeze the file systems'):
            return int(self._handle.fsFreeze())

    def thaw(self) -> int:
        """
        :returns: how many file systems were frozen still
        """
        with self._calling('thaw the file systems'):
            return int(self._handle.fsThaw())

    # Suspending

    def managed_save(self, timeout: int, cancellation: Cancellation) -> None:
        """Save the guest's memory and stop it, as ``virsh managedsave``.

        :raises HypervisorTimeout: it took longer; the guest runs on
        """
        saving = background.call(lambda: self._handle.managedSave(0))
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
        if self.power_state() is PowerState.SUSPENDED:
            flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
            with self._calling('start'):
                self._handle.createWithFlags(flags)
        elif self.is_active():
            self._remove_unfinished_save()
            if self.power_state() is PowerState.PAUSED and not paused:
                with self._calling('resume'):
                    self._handle.resume()

    def _remove_unfinished_save(self) -> None:
        """An active guest has no other, and could not be undefined."""
        with self._calling('remove the unfinished managed save'):
            if self._handle.hasManagedSaveImage():
                self._handle.managedSaveRemove()

    # Pausing

    def pause(self, timeout: int) -> None:
        """Stop its vCPUs; QEMU then writes out all that it holds back.

        :param timeout: the seconds in which QEMU must have done so
        :raises HypervisorTimeout: it has not; whoever asked owes a resume
        """
        pausing = background.call(self._handle.suspend)
        try:
            self._wait_until(
                pausing.done,
                'pause',
                timeout,
                Cancellation(),
                ABORT_INTERVAL,
                'stillness_timeout',
            )
        except exception.HypervisorTimeout:
            # A resume that came first would be for nothing.
            futures.wait([pausing], ABORT_TIMEOUT)
            raise
        with self._calling('pause'):
            pausing.result()

    def unpause(self) -> None:
        """Let it run on, if it is there and is paused."""
        with (
            contextlib.suppress(exception.DomainNotFound),
            self._calling('resume'),
        ):
            state, _reason = self._handle.state()
            if state == libvirt.VIR_DOMAIN_PAUSED:
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
        interval: float | None = None,
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
            cancellation.sleep(interval or POLL_INTERVAL)
