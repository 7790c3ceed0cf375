# SPDX-License-Identifier: Apache-2.0
"""A backup job: the content of a disk at the instant of its begin."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING
from typing import Any
from typing import NoReturn
from xml.etree import ElementTree

import libvirt
import tenacity

from nova_snapshot_driver import domain
from nova_snapshot_driver import exception
from nova_snapshot_driver import undo
from nova_snapshot_driver.libvirt_errors import translated
from nova_snapshot_driver.libvirt_errors import with_free_names

if TYPE_CHECKING:
    from nova_snapshot_driver.guest import Guest

#: What reading fails with when the export is gone.
UNREADABLE = (exception.CommandFailed, exception.SourceUnreadable)

#: How often the end of a job is looked for whose export is gone, and the
#: seconds in between.
END_ATTEMPTS = 30
END_INTERVAL = 0.1


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the files of a job lie.

    :ivar socket: the Unix socket of the export, which is called as the disk
    :ivar scratch: the file with what the guest overwrites; that of an
        encrypted disk is made before the job, by ``qemu-img``
    """

    socket: str
    scratch: str


class BackupJob:
    """A backup job in pull mode, which QEMU exports by NBD.

    While it runs, QEMU keeps in a scratch file what the guest overwrites.
    Abortion is its normal end. Source: ``virDomainBackupBegin``.

    :param place: of its files
    :param timeout: the seconds in which it must end when told to
    """

    def __init__(
        self,
        guest: Guest,
        handle: Any,
        disk: domain.Disk,
        place: Place,
        timeout: int,
    ) -> None:
        self._guest = guest
        self._handle = handle
        self._disk = disk
        self._place = place
        self._timeout = timeout

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The job runs for as long as the context is on.

        :raises BackupRefused: libvirt does not begin it
        :raises BackupFailed: it has ended by itself, or not well
        """
        try:
            self._begin()
            try:
                yield
            except UNREADABLE as error:
                if self._has_ended():
                    self._fail_early(error)
                raise
            self._finish()
        finally:
            undo.surely(
                self._guest.name,
                'end the backup job',
                self._give_up,
                f'End it with "virsh domjobabort {self._guest.name}".',
            )

    def _begin(self) -> None:
        try:
            with translated(self._guest.name, 'begin the backup job'):
                with_free_names(
                    lambda: self._handle.backupBegin(
                        _xml(self._disk, self._place), None, self._flags()
                    )
                )
        except exception.HypervisorError as error:
            raise exception.BackupRefused(
                domain=self._guest.name, reason=error.fields['reason']
            ) from error

    def _flags(self) -> int:
        if self._disk.secret is None:
            return 0
        return int(libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL)

    def _finish(self) -> None:
        if not self._runs():
            self._fail_early()
        self._guest.abort_job(self._timeout)
        # libvirt tells it once.
        with translated(self._guest.name, 'read the result of the backup job'):
            result = self._handle.jobStats(
                libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED
            )
        if not result.get('success'):
            self._fail(result.get('errmsg', 'its result is unknown'))

    def _give_up(self) -> None:
        if self._runs():
            self._guest.abort_job(self._timeout)

    def _has_ended(self) -> bool:
        """Whether it is over, or will be at once.

        The export of a guest that stops is gone before libvirt has seen that
        the guest is.
        """
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda ended: not ended),
            stop=tenacity.stop_after_attempt(END_ATTEMPTS),
            wait=tenacity.wait_fixed(END_INTERVAL),
            retry_error_callback=lambda _: False,
        )
        return bool(attempts(lambda: not self._runs()))

    def _runs(self) -> bool:
        try:
            return self._guest.backup_socket() == self._place.socket
        except exception.DomainNotFound:
            return False

    def _has_stopped(self) -> bool:
        try:
            return not self._guest.is_active()
        except exception.DomainNotFound:
            return True

    def _fail_early(self, cause: Exception | None = None) -> NoReturn:
        reason = 'somebody has ended it'
        if self._has_stopped():
            reason = 'the guest has stopped'
        self._fail(reason, cause)

    def _fail(self, reason: str, cause: Exception | None = None) -> NoReturn:
        raise exception.BackupFailed(
            domain=self._guest.name, disk=self._disk.target, reason=reason
        ) from cause


def socket_of(xml: str) -> str:
    """The socket of the job that libvirt describes; empty if it has none.

    :param xml: of ``virDomainBackupGetXMLDesc``
    """
    root = ElementTree.fromstring(xml)  # noqa: S314 (libvirt wrote it)
    server = root.find("server[@transport='unix']")
    return '' if server is None else server.get('socket', '')


def _xml(disk: domain.Disk, place: Place) -> str:
    """Source: https://libvirt.org/formatbackup.html

    Disks that are not named are left out of the job.
    """
    root = ElementTree.Element('domainbackup', mode='pull')
    ElementTree.SubElement(
        root, 'server', transport='unix', socket=place.socket
    )
    backup = ElementTree.SubElement(
        ElementTree.SubElement(root, 'disks'),
        'disk',
        name=disk.target,
        backup='yes',
        type='file',
        exportname=disk.target,
    )
    ElementTree.SubElement(backup, 'driver', type='qcow2')
    scratch = ElementTree.SubElement(backup, 'scratch', file=place.scratch)
    if disk.secret is not None:
        # What the guest has overwritten is on no disk in plain text either.
        encryption = ElementTree.SubElement(
            scratch, 'encryption', format='luks'
        )
        ElementTree.SubElement(
            encryption, 'secret', type='passphrase', uuid=disk.secret
        )
    return ElementTree.tostring(root, encoding='unicode')
