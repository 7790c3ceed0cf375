# SPDX-License-Identifier: Apache-2.0
"""The live way: a backup job shows the disk as it was at its begin.

The domain stays as it is, the disk is read where it lies, and the file
systems stand still only for the moment in which the job is begun.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver import qemu_img
from nova_snapshot_driver import undo
from nova_snapshot_driver import workspace
from nova_snapshot_driver.backup_job import Place
from nova_snapshot_driver.capture import Means
from nova_snapshot_driver.domain import Disk
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.view import Export

LOG = logging.getLogger(__name__)

SCRATCH_DIRECTORY = '[snapshot] scratch_directory'

#: What the kernel takes for the path of a socket, in bytes.
LONGEST_SOCKET = 107

#: How often the space for the scratch file is looked at, in seconds.
WATCH_INTERVAL = 0.2


@contextlib.contextmanager
def view(guest: Guest, plan: Plan, means: Means) -> Iterator[Export]:
    """The content of the root disk while the guest runs on, or is paused.

    :raises BackupRefused: there can be no such job
    :raises BackupFailed: the job has ended too early
    :raises ScratchFull: it was ended for want of space
    :raises QuiesceFailed: quiescing is required and failed
    """
    with (
        _socket(guest, means) as socket,
        _scratch(guest, means) as scratch,
    ):
        _see_that_none_is_in_the_way(guest)
        place = Place(socket, scratch.file('scratch'))
        _make_encrypted(guest, plan.disk, place.scratch)
        means.quiesce.check()
        with contextlib.ExitStack() as stack:
            # One that was found stopped is to stay so.
            if plan.power_state is PowerState.RUNNING:
                stack.callback(_let_go_on, guest)
            with means.quiesce.frozen():
                stack.enter_context(
                    guest.backing_up(
                        plan.disk,
                        place,
                        means.conf.snapshot.guest_timeout,
                    )
                )
            means.surroundings.claim(socket)
            stack.enter_context(
                _space_watched(guest, scratch.path, means.conf)
            )
            yield Export(socket, plan.disk.target)


def scratch_root(conf: cfg.ConfigOpts) -> str:
    """The directory in which the scratch files lie."""
    return str(
        conf.snapshot.scratch_directory or conf.libvirt.snapshots_directory
    )


def directories(conf: cfg.ConfigOpts) -> tuple[str, ...]:
    """Those that hold temporary files of a snapshot, by any path."""
    roots = {conf.libvirt.snapshots_directory, scratch_root(conf)}
    return tuple(sorted(os.path.abspath(root) for root in roots))


@contextlib.contextmanager
def _socket(guest: Guest, means: Means) -> Iterator[str]:
    """The path of a socket that QEMU and this driver can reach alone."""
    root = means.conf.libvirt.snapshots_directory
    with workspace.socket_directory(root, guest.uuid) as directory:
        socket = os.path.join(directory, 's')
        if len(os.fsencode(socket)) > LONGEST_SOCKET:
            raise exception.BackupRefused(
                domain=guest.name,
                reason=f'{socket} is too long for a socket',
            )
        qemu = guest.describe().qemu_uid
        if qemu not in (None, os.geteuid()):
            try:
                means.surroundings.entrust(directory, qemu)
            except PermissionError as error:
                raise exception.BackupRefused(
                    domain=guest.name,
                    reason=f'this user may not give {directory} to QEMU',
                ) from error
        yield socket


@contextlib.contextmanager
def _scratch(guest: Guest, means: Means) -> Iterator[workspace.Workspace]:
    root = scratch_root(means.conf)
    with workspace.Workspace.open(
        root, guest.uuid, SCRATCH_DIRECTORY
    ) as scratch:
        reserve = means.conf.snapshot.scratch_reserve * workspace.MIB
        workspace.require_space(
            guest.name, [(scratch.path, reserve)], SCRATCH_DIRECTORY
        )
        yield scratch


def _make_encrypted(guest: Guest, disk: Disk, scratch: str) -> None:
    """Make the scratch file of an encrypted disk.

    QEMU would do so while the guest stands still, and take seconds to compute
    what makes a passphrase hard to guess.
    """
    if disk.secret is None:
        return
    qemu_img.create_encrypted(
        scratch, guest.capacity(disk), guest.passphrase(disk)
    )
    os.chmod(scratch, 0o600)


def _see_that_none_is_in_the_way(guest: Guest) -> None:
    """libvirt would wait for it, and the file systems stood still."""
    reason = None
    if guest.has_lost_job():
        reason = 'libvirt has lost one, and keeps its place'
    elif guest.is_busy():
        reason = 'it has a job of another kind'
    if reason is not None:
        raise exception.BackupRefused(domain=guest.name, reason=reason)


def _let_go_on(guest: Guest) -> None:
    """See that no guest stands still for want of room for its scratch file."""
    undo.surely(
        guest.name,
        'let the guest go on',
        guest.try_again,
        f'Do it with "virsh resume {guest.name}".',
    )


@contextlib.contextmanager
def _space_watched(
    guest: Guest, directory: str, conf: cfg.ConfigOpts
) -> Iterator[None]:
    """End the job before the scratch file fills its file system.

    The guest's own writes would fail then.

    :raises ScratchFull: it was ended
    """
    watch = _SpaceWatch(guest, directory, conf)
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.stop()
        thread.join()
        # Whatever else has failed, it was because of this.
        watch.check()


class _SpaceWatch:
    """
    :param directory: of the scratch file
    """

    def __init__(
        self, guest: Guest, directory: str, conf: cfg.ConfigOpts
    ) -> None:
        self._guest = guest
        self._directory = directory
        self._reserve = conf.snapshot.scratch_reserve * workspace.MIB
        self._timeout = conf.snapshot.guest_timeout
        self._stopped = threading.Event()
        self._available: int | None = None

    def run(self) -> None:
        while not self._stopped.wait(WATCH_INTERVAL):
            available = workspace.free_bytes(self._directory)
            if available >= self._reserve:
                continue
            self._available = available
            try:
                self._guest.abort_job(self._timeout)
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
