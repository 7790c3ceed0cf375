# SPDX-License-Identifier: Apache-2.0
"""The jobs by which the disk of a guest is read.

Whose a job is, its files tell: those of a snapshot lie in its directories.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Self

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.jobs import abort_limit
from nova_snapshot_driver.takings import lost_agent
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.tools import UndoTools

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class BackupJob(Taking):
    """A backup job runs."""

    KIND = 'backup-job'
    WHOSE = Whose.GUEST

    @classmethod
    def suspected(cls, _tools: UndoTools) -> Iterable[Self]:
        return (cls(),)

    def describe(self) -> str:
        return 'end its backup job'

    def state(self) -> str:
        return 'with a backup job'

    def is_due(self, tools: UndoTools) -> bool:
        """
        :raises ForeignJob: it has one that is not ours
        """
        socket = tools.guest.jobs.backup_socket()
        if socket is None:
            return False
        if not socket or not _lies_in(socket, tools.directories):
            raise exception.ForeignJob(domain=tools.domain, job='backup')
        return True

    def undo(self, tools: UndoTools) -> None:
        LOG.warning(
            'Domain %s: a backup job was left behind and is ended',
            tools.domain,
        )
        tools.guest.jobs.end_backup(
            abort_limit(tools.settings.job_abort_timeout)
        )
        tools.guest.power.resume_after_io_error()
        lost_agent.recover(tools)


@dataclasses.dataclass(frozen=True)
class BlockJob(Taking):
    """A block job copies the disk."""

    KIND = 'block-job'
    WHOSE = Whose.GUEST
    # To libvirt a backup job is a block job too.
    AFTER = frozenset({BackupJob.KIND})

    @classmethod
    def suspected(cls, _tools: UndoTools) -> Iterable[Self]:
        return (cls(),)

    def describe(self) -> str:
        return 'end the copy of its disk'

    def state(self) -> str:
        return 'with a block job'

    def is_due(self, tools: UndoTools) -> bool:
        """
        :raises ForeignBlockJob: its root disk has a job that is not ours
        """
        guest = tools.guest
        # A rehearsal ends no backup job, and no other job is beside one.
        if guest.jobs.backup_socket() is not None:
            return False
        disk = guest.describe().root_disk
        if disk is None or not guest.is_active():
            return False
        job = guest.jobs.block_job(disk)
        if job is None:
            return False
        target = disk.mirror.path if disk.mirror else None
        if target is None or not _lies_in(target, tools.directories):
            raise exception.ForeignBlockJob(
                domain=tools.domain,
                disk=disk.target,
                job=job if target is None else f'{job} to {target}',
            )
        return True

    def undo(self, tools: UndoTools) -> None:
        disk = tools.guest.describe().root_disk
        # The block job may have ended meanwhile.
        if disk is None or disk.mirror is None:
            return
        LOG.warning(
            'Domain %s: the copy of %s to %s was left behind and is ended',
            tools.domain,
            disk.target,
            disk.mirror.path,
        )
        tools.guest.jobs.abort_block_job(
            disk, abort_limit(tools.settings.job_abort_timeout)
        )


def has_any(guest: Guest, directories: Iterable[str]) -> bool:
    """Whether a guest has a job of ours, as far as QEMU need not be asked.

    The job may be that of a snapshot that is alive.
    """
    disk = guest.describe().root_disk
    places = [
        guest.jobs.backup_socket(),
        disk.mirror.path if disk and disk.mirror else None,
    ]
    return any(place and _lies_in(place, directories) for place in places)


def _lies_in(path: str, directories: Iterable[str]) -> bool:
    # The last name may be QEMU's, and a link to anywhere.
    path = os.path.realpath(os.path.dirname(path))
    roots = [os.path.realpath(directory) for directory in directories]
    return any(os.path.commonpath([path, root]) == root for root in roots)
