# SPDX-License-Identifier: Apache-2.0
"""The jobs of a guest: what QEMU does with its disks beside running it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common.wait import Limit
from nova_snapshot_driver.hypervisor import backup_xml
from nova_snapshot_driver.hypervisor.bindings import libvirt
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.libvirt_domain import LibvirtDomain

#: How often it is looked whether a backup job that was aborted is
#: gone, in seconds.
ABORT_INTERVAL = 0.02

#: How often it is looked whether a block job that was aborted is gone, in
#: seconds. The guest's file systems may stand still meanwhile.
BLOCK_JOB_INTERVAL = 0.01

# The error has no code. Source: qemuBackupGetJobInfoStats in libvirt.
_JOB_LOST = 'backup job data missing'

# A hypervisor other than QEMU has no backup jobs at all.
_NO_BACKUP_JOB = (
    libvirt.VIR_ERR_NO_DOMAIN_BACKUP,
    libvirt.VIR_ERR_NO_SUPPORT,
)

_BLOCK_JOB_NAMES = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL: 'pull',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY: 'copy',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT: 'commit',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT: 'active commit',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP: 'backup',
}


def abort_limit(seconds: float) -> Limit:
    """The limit for a job to end that is told to."""
    return Limit(seconds, 'job_abort_timeout')


class Jobs:
    """The jobs of one guest."""

    def __init__(self, domain: LibvirtDomain) -> None:
        self._domain = domain

    def is_busy(self) -> bool:
        """Whether a job runs that libvirt bears no other beside."""
        with self._domain.calling('read the job') as handle:
            kind, *_figures = handle.jobInfo()
        return bool(kind != libvirt.VIR_DOMAIN_JOB_NONE)

    def has_lost_job(self) -> bool:
        """Whether libvirt was killed while it began a backup job.

        libvirt remembers that there is one, and no more: the job can't be
        ended, and until the domain is gone there is no other one beside it.
        """
        try:
            self.is_busy()
        except exception.HypervisorError as error:
            if _JOB_LOST in error.fields['reason']:
                return True
            raise
        return False

    def block_job(self, disk: Disk) -> str | None:
        """The kind of block job that the disk has; None where it has none."""
        job = self.block_job_info(disk)
        if not job:
            return None
        return _BLOCK_JOB_NAMES.get(job['type'], f'type {job["type"]}')

    def block_job_info(self, disk: Disk) -> dict[str, int]:
        """As ``virDomainGetBlockJobInfo``; empty where there is none."""
        with self._domain.calling('read the block job') as handle:
            return dict(handle.blockJobInfo(disk.target) or {})

    def has_block_job(self, disk: Disk) -> bool:
        """Whether the disk of a guest that runs has a block job."""
        return (
            not self._domain.has_stopped() and self.block_job(disk) is not None
        )

    def abort_block_job(
        self,
        disk: Disk,
        limit: Limit,
        is_heard: Callable[[], bool] = lambda: False,
    ) -> None:
        """Have a block job end, whatever it is, and see that it is gone.

        :param is_heard: whether an event has told of the end: libvirt is not
            asked then
        :raises HypervisorTimeout: the job is still there
        :raises HypervisorError: libvirt refuses to end it
        """
        ending = self._begin_to_abort_block_job(disk)

        def is_gone() -> bool:
            if is_heard():
                return True
            # libvirt answers no question about the job before that.
            if not ending.done():
                return False
            with self._domain.calling('abort the block job'):
                ending.result()
            return is_heard() or not self.has_block_job(disk)

        self._domain.wait_until(
            is_gone,
            'aborting the block job',
            limit,
            interval=BLOCK_JOB_INTERVAL,
        )

    def _begin_to_abort_block_job(self, disk: Disk) -> futures.Future[None]:
        """Have a block job end, some time.

        libvirt is asked to wait for the end of the job, and does so on the
        thread of this call. With ``VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC`` the end
        would be an event like any other, and libvirt's one thread for the
        events of all guests may be busy for minutes (``agent_channel``).
        Source: ``virDomainBlockJobAbort``.

        :returns: the call, with an error of libvirt's own if it is refused
        """
        with self._domain.calling('abort the block job') as handle:
            return handle.begun('blockJobAbort', disk.target, 0)

    def backup_socket(self) -> str | None:
        """The socket of the backup job that runs; None where none does.

        Empty for a job without a socket, which is nobody's of this driver.
        """
        with self._domain.calling('read the backup job') as handle:
            try:
                return backup_xml.socket_of(handle.backupGetXMLDesc())
            except libvirt.libvirtError as error:
                if error.get_error_code() not in _NO_BACKUP_JOB:
                    raise
                return None

    def end_backup(self, limit: Limit) -> None:
        """End the backup job that runs, and see that it is gone.

        ``virDomainAbortJob`` leaves the end of the job to libvirt's event
        thread, which may have to wait for that very end (``agent_channel``).
        ``virDomainBlockJobAbort`` sees to the end itself, on the thread of
        the call.

        Where the guest has just stopped, libvirt refuses everything until it
        has noticed, half a minute later at times: that is waited for.

        :raises HypervisorTimeout: the job is still there
        :raises HypervisorError: libvirt refuses to end it
        """
        refusal = None
        with undo.under_way():
            try:
                self._abort_backup(limit)
            except exception.HypervisorError as error:
                refusal = error
            self._domain.wait_until(
                lambda: self._has_no_backup(refusal),
                'ending the backup job',
                limit,
                interval=ABORT_INTERVAL,
            )

    def _abort_backup(self, limit: Limit) -> None:
        with self._domain.calling('end the backup job') as handle:
            handle = handle.within(limit)
            try:
                for target in backup_xml.disks_of(handle.backupGetXMLDesc()):
                    handle.blockJobAbort(target, 0)
            except libvirt.libvirtError:
                # Somebody else may have begun to end it.
                handle.abortJob()

    def _has_no_backup(
        self, refusal: exception.HypervisorError | None
    ) -> bool:
        """
        :param refusal: to end the job
        """
        if not self._domain.is_active() or self.backup_socket() is None:
            return True
        if refusal is None:
            return False
        try:
            self.is_busy()
        except exception.HypervisorError:
            # QEMU has gone, and libvirt is about to notice it.
            return False
        raise refusal
