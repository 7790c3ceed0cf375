# SPDX-License-Identifier: Apache-2.0
"""The live way: a backup job shows disks as they were at its begin.

The domain stays as it is, the disks are read where they lie, and the file
systems stand still only for the moment in which the job is begun.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import qemu_img
from nova_snapshot_driver.common import ownership
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.ownership import Kind
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Server
from nova_snapshot_driver.hypervisor import backup_xml
from nova_snapshot_driver.hypervisor.agent_channel import EVENT_PATIENCE
from nova_snapshot_driver.hypervisor.backup_job import BackupJob
from nova_snapshot_driver.hypervisor.backup_xml import Place
from nova_snapshot_driver.hypervisor.checkpoint_xml import UNTRACKED
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.checkpoint_xml import Tracking
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.domain import QemuUser
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.jobs import abort_limit
from nova_snapshot_driver.snapshot.capture import silence
from nova_snapshot_driver.snapshot.capture.base import CaptureTools
from nova_snapshot_driver.snapshot.capture.settings import CaptureSettings
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.state import workspace
from nova_snapshot_driver.takings import checkpoint_metadata
from nova_snapshot_driver.takings import lost_agent
from nova_snapshot_driver.takings import temporary_files

LOG = logging.getLogger(__name__)

SCRATCH_DIRECTORY = '[snapshot] scratch_directory'

#: The longest path of a socket that the kernel accepts, in bytes.
LONGEST_SOCKET = 107

#: The longest snapshots directory in which the path of a socket is no longer,
#: in bytes. Below it is a ``workspace.socket_directory``.
LONGEST_ROOT = LONGEST_SOCKET - len(
    f'/{temporary_files.OWN}{"-" * 36}.XXXXXXXX/{temporary_files.SOCKET}'
)

#: A file that everybody may read, unless /proc hides foreign processes.
_FIRST_PROCESS = '/proc/1/cmdline'

#: How often the space for the scratch file is looked at, in seconds.
WATCH_INTERVAL = 0.2


@contextlib.contextmanager
def captured(
    guest: Guest, plan: Plan, tools: CaptureTools
) -> Iterator[dict[str, Export]]:
    """The content of the disks while the guest runs on, or is paused.

    :raises BackupRefused: there can be no such job
    :raises ChangesUntracked: there can be none with the bitmaps of the plan
    :raises BackupFailed: the job has ended too early
    :raises ScratchFull: the job was ended for want of space
    :raises QuiesceFailed: quiescing is required and failed
    """
    is_read = False
    try:
        with _exports(guest, plan, tools) as exports:
            yield exports
            is_read = True
    except exception.UndoFailed as error:
        if not is_read:
            raise
        tools.aftermath.leave(error)


@contextlib.contextmanager
def _exports(
    guest: Guest, plan: Plan, tools: CaptureTools
) -> Iterator[dict[str, Export]]:
    qemu = guest.describe().qemu_user
    disks = tuple(planned.disk for planned in plan.disks)
    with (
        _socket(guest, qemu, tools) as socket,
        _scratch(guest, tools) as scratch,
    ):
        _see_that_none_is_in_the_way(guest)
        place = Place(socket, scratch.path)
        if any(disk.secret is not None for disk in disks):
            for disk in disks:
                _make_scratch_file(guest, disk, place.scratch_of(disk))
        tools.quiesce.check()
        # The sizes that QEMU says of the exports later are held against them.
        sizes = {disk.target: guest.capacity(disk) for disk in disks}
        limit = abort_limit(tools.settings.job_abort_timeout)
        tracking = UNTRACKED
        if plan.increment is not None:
            tracking = plan.increment.tracking
        job = BackupJob(guest, disks, place, limit, tracking)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_agent_kept(tools))
            # A guest that was found paused is to stay so. Any other may run
            # by then: it is woken, or reset.
            if plan.power_state is not PowerState.PAUSED:
                stack.callback(_let_go_on, guest)
            with _known(guest, tracking), tools.quiesce.frozen():
                stack.enter_context(job.running())
            inode = _claimed(guest, socket, qemu, tools)
            stack.enter_context(
                _space_watched(guest, scratch.path, tools.settings)
            )
            stack.enter_context(silence.heard(guest, tools.cancellation))
            server = _server(guest, qemu)
            yield {
                target: Export(
                    socket,
                    target,
                    size,
                    inode,
                    server,
                    _changes_in(tracking, target),
                )
                for target, size in sizes.items()
            }


def scratch_place(settings: CaptureSettings) -> workspace.Place:
    """The directory in which the scratch files lie."""
    if settings.scratch_directory:
        return workspace.Place(settings.scratch_directory, SCRATCH_DIRECTORY)
    return workspace.Place(settings.snapshots_directory)


def scratch_need(settings: CaptureSettings, directory: str) -> workspace.Need:
    """The room that a directory needs for a backup job to begin.

    An error names the option by which the scratch files get another place.
    """
    return workspace.Need(
        workspace.Place(directory, SCRATCH_DIRECTORY),
        settings.scratch_reserve,
    )


@contextlib.contextmanager
def _socket(
    guest: Guest, qemu: QemuUser | None, tools: CaptureTools
) -> Iterator[str]:
    """The path of a socket that QEMU and this driver can reach alone."""
    root = tools.settings.snapshots_directory
    with workspace.socket_directory(root, guest.uuid) as directory:
        socket = os.path.join(directory, temporary_files.SOCKET)
        if len(os.fsencode(socket)) > LONGEST_SOCKET:
            raise exception.BackupRefused(
                domain=guest.name,
                reason=f'{socket} is too long for a socket',
            )
        if qemu is not None and qemu.uid != os.geteuid():
            _see_that_processes_can_be_seen(guest)
            try:
                tools.environment.entrust(directory, qemu.uid)
            except PermissionError as error:
                raise exception.BackupRefused(
                    domain=guest.name,
                    reason=f'this user may not give {directory} to QEMU '
                    f'({error.strerror})',
                ) from error
        yield socket


def _see_that_processes_can_be_seen(guest: Guest) -> None:
    """See that it can be told whose process serves an export.

    It could not be while the job runs, which is too late for another way.
    """
    if not os.access(_FIRST_PROCESS, os.R_OK):
        raise exception.BackupRefused(
            domain=guest.name,
            reason='this user does not see the processes of others (the mount '
            'option hidepid of /proc; its option gid lets a group see them)',
        )


def _claimed(
    guest: Guest, socket: str, qemu: QemuUser | None, tools: CaptureTools
) -> Inode:
    """The socket that QEMU has made, which is ours from now on.

    :raises BackupRefused: something else is there
    """
    owner = os.geteuid() if qemu is None else qemu.uid
    try:
        return tools.environment.claim(socket, Kind.SOCKET, (owner,))
    except exception.ClaimRefused as error:
        raise exception.BackupRefused(
            domain=guest.name, reason=str(error).rstrip('.')
        ) from error


def _server(guest: Guest, qemu: QemuUser | None) -> Server:
    """The QEMU of a guest, as libvirt has started it."""
    return Server(None if qemu is None else qemu.uid, ('-uuid', guest.uuid))


@contextlib.contextmanager
def _scratch(
    guest: Guest, tools: CaptureTools
) -> Iterator[workspace.Workspace]:
    place = scratch_place(tools.settings)
    with workspace.Workspace.open(
        place.directory, guest.uuid, place.option
    ) as scratch:
        workspace.require_space(
            guest.name, [scratch_need(tools.settings, scratch.path)]
        )
        yield scratch


def _make_scratch_file(guest: Guest, disk: Disk, path: str) -> None:
    """Make the scratch file of a disk of a job that has an encrypted one.

    QEMU would do so while the guest stands still, and take seconds to compute
    what makes a passphrase hard to guess. libvirt has it make either all of
    the files of a job or none.
    """
    size = guest.capacity(disk)
    if disk.secret is None:
        qemu_img.create_overlay(path, size, None)
    else:
        qemu_img.create_encrypted(path, size, guest.passphrase(disk))
    ownership.set_mode(path, 0o600)


def _changes_in(tracking: Tracking, target: str) -> str | None:
    """The name of the bitmap in the export of a disk, if it has one."""
    if tracking.base is None or tracking.base.disk != target:
        return None
    return backup_xml.changes_of(target)


@contextlib.contextmanager
def _known(guest: Guest, tracking: Tracking) -> Iterator[None]:
    """Have libvirt know the bitmaps of a job while it is begun, and no longer.

    :raises ChangesUntracked: QEMU has not the bitmap that the job begins from
    """
    if tracking == UNTRACKED:
        yield
        return
    try:
        if tracking.base is not None:
            _define_base(guest, tracking.base)
        yield
    finally:
        undo.retry_undo(
            guest.name,
            checkpoint_metadata.FORGET,
            guest.checkpoints.forget,
            checkpoint_metadata.remedy(guest.name),
        )


def _define_base(guest: Guest, base: Bitmap) -> None:
    try:
        guest.checkpoints.define(base)
    except exception.HypervisorError as error:
        raise exception.ChangesUntracked(
            domain=guest.name, disk=base.disk, reason=error.fields['reason']
        ) from error


def _see_that_none_is_in_the_way(guest: Guest) -> None:
    """See that no other job would have libvirt wait, with the guest frozen."""
    reason = None
    if guest.jobs.has_lost_job():
        reason = 'libvirt has lost one, and keeps its place'
    elif guest.jobs.is_busy():
        reason = 'it has a job of another kind'
    if reason is not None:
        raise exception.BackupRefused(domain=guest.name, reason=reason)


def _let_go_on(guest: Guest) -> None:
    """See that no guest stands still for want of room for its scratch file."""
    undo.retry_undo(
        guest.name,
        'let the guest go on',
        guest.power.resume_after_io_error,
        f'Do it with "virsh resume {guest.name}".',
    )


@contextlib.contextmanager
def _agent_kept(tools: CaptureTools) -> Iterator[None]:
    """libvirt reaches the guest's agent afterwards, if anybody could.

    :raises UndoFailed: the guest is left without its channel
    """
    began = time.monotonic()
    try:
        yield
    finally:
        if time.monotonic() - began >= EVENT_PATIENCE:
            note = lost_agent.recover(tools.undo)
            if note is not None:
                tools.aftermath.notes.append(note)


@contextlib.contextmanager
def _space_watched(
    guest: Guest, directory: str, settings: CaptureSettings
) -> Iterator[None]:
    """End the job before the scratch file fills its file system.

    A full file system would make the guest's own writes fail.

    :raises ScratchFull: the job was ended
    """
    watch = _SpaceWatch(guest, directory, settings)
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        watch.stop()
        thread.join()
        # A job ended for want of space explains every later failure.
        watch.check()
        raise
    # All has been read: the end of the job takes no byte from the image.
    watch.stop()
    thread.join()


class _SpaceWatch:
    """
    :param directory: of the scratch file
    """

    def __init__(
        self, guest: Guest, directory: str, settings: CaptureSettings
    ) -> None:
        self._guest = guest
        self._directory = directory
        self._reserve = settings.scratch_reserve
        self._limit = abort_limit(settings.job_abort_timeout)
        self._stopped = threading.Event()
        self._available: int | None = None

    def run(self) -> None:
        while not self._stopped.wait(WATCH_INTERVAL):
            available = workspace.free_bytes(self._directory)
            if available >= self._reserve:
                continue
            self._available = available
            try:
                self._guest.jobs.end_backup(self._limit)
            except exception.SnapshotError as error:
                LOG.error('%s; it is tried again', error)
            else:
                return

    def stop(self) -> None:
        self._stopped.set()

    def check(self) -> None:
        """See that the job was not ended."""
        if self._available is not None:
            raise exception.ScratchFull(
                domain=self._guest.name,
                directory=self._directory,
                available=self._available // workspace.MIB,
                reserve=self._reserve // workspace.MIB,
            )
