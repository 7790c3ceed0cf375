# SPDX-License-Identifier: Apache-2.0
"""The jobs that a snapshot that died has left on a guest."""

from __future__ import annotations

import os

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.recovery.undoing import Undoing

LOG = logging.getLogger(__name__)


def end(
    guest: Guest, undoing: Undoing, directories: list[str], timeout: int
) -> bool:
    """End those that are ours.

    :param directories: where ours have their files
    :param timeout: seconds
    :returns: whether none is left
    """
    return undoing.undo(
        'end its backup job',
        lambda: _end_backup(guest, timeout),
        lambda: _has_abandoned_backup(guest, directories),
        # To libvirt it is a block job too.
    ) and undoing.undo(
        'end the copy of its disk',
        lambda: _end_copy(guest, timeout),
        # A rehearsal does not end it, and there is no other beside it.
        lambda: (
            guest.backup_socket() is None
            and _has_abandoned_copy(guest, directories)
        ),
    )


def has_any(guest: Guest, directories: list[str]) -> bool:
    """Whether it has one of ours, as far as QEMU need not be asked.

    It may be that of a snapshot that is alive.
    """
    disk = guest.describe().root_disk
    places = [
        guest.backup_socket(),
        disk.mirror.path if disk and disk.mirror else None,
    ]
    return any(place and _lies_in(place, directories) for place in places)


def _end_backup(guest: Guest, timeout: int) -> None:
    LOG.warning(
        'Domain %s: a backup job was left behind and is ended', guest.name
    )
    guest.abort_job(timeout)
    guest.try_again()


def _end_copy(guest: Guest, timeout: int) -> None:
    disk = guest.describe().root_disk
    # It may have ended meanwhile.
    if disk is None or disk.mirror is None:
        return
    LOG.warning(
        'Domain %s: the copy of %s to %s was left behind and is ended',
        guest.name,
        disk.target,
        disk.mirror.path,
    )
    guest.abort_block_job(disk, timeout)


def _has_abandoned_backup(guest: Guest, directories: list[str]) -> bool:
    """
    :raises ForeignJob: it has one that is not ours
    """
    socket = guest.backup_socket()
    if socket is None:
        return False
    if not socket or not _lies_in(socket, directories):
        raise exception.ForeignJob(domain=guest.name, job='backup')
    return True


def _has_abandoned_copy(guest: Guest, directories: list[str]) -> bool:
    """
    :raises ForeignBlockJob: its root disk has a job that is not ours
    """
    disk = guest.describe().root_disk
    if disk is None or not guest.is_active():
        return False
    job = guest.block_job(disk)
    if job is None:
        return False
    target = disk.mirror.path if disk.mirror else None
    if target is None or not _lies_in(target, directories):
        raise exception.ForeignBlockJob(
            domain=guest.name,
            disk=disk.target,
            job=job if target is None else f'{job} to {target}',
        )
    return True


def _lies_in(path: str, directories: list[str]) -> bool:
    path = os.path.realpath(path)
    roots = [os.path.realpath(directory) for directory in directories]
    return any(os.path.commonpath([path, root]) == root for root in roots)
