# SPDX-License-Identifier: Apache-2.0
"""The documents in which libvirt is told of a backup job, and tells of it.

Source: https://libvirt.org/formatbackup.html
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from xml.etree import ElementTree

from nova_snapshot_driver.hypervisor import domain
from nova_snapshot_driver.hypervisor import libvirt_xml
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the files of a job lie.

    :ivar socket: the Unix socket of the exports, which are called as the disks
    :ivar directory: of the scratch files
    """

    socket: str
    directory: str

    def scratch_of(self, disk: domain.Disk) -> str:
        """The file with what the guest overwrites on a disk.

        That of an encrypted disk is made before the job, by ``qemu-img``.
        """
        return os.path.join(self.directory, f'scratch-{disk.target}')


def changes_of(target: str) -> str:
    """The name in an export of the bitmap with the changes of a disk."""
    return f'changes-{target}'


def socket_of(xml: str) -> str:
    """The socket of the job that libvirt describes; empty if it has none.

    :param xml: of ``virDomainBackupGetXMLDesc``
    """
    root = libvirt_xml.parsed(xml, 'a backup job')
    server = root.find("server[@transport='unix']")
    return '' if server is None else server.get('socket', '')


def disks_of(xml: str) -> list[str]:
    """The targets of the disks in the job that libvirt describes.

    :param xml: of ``virDomainBackupGetXMLDesc``
    """
    root = libvirt_xml.parsed(xml, 'a backup job')
    return [
        disk.get('name', '')
        for disk in root.iterfind("disks/disk[@backup='yes']")
    ]


def document(
    disks: Iterable[domain.Disk], place: Place, base: Bitmap | None = None
) -> str:
    """The document of a job in pull mode, for ``virDomainBackupBegin``.

    Disks that are not named are left out of the job.

    :param base: the bitmap whose changes the export of its disk shows; None
        for an export that shows none
    """
    root = ElementTree.Element('domainbackup', mode='pull')
    ElementTree.SubElement(
        root, 'server', transport='unix', socket=place.socket
    )
    parent = ElementTree.SubElement(root, 'disks')
    for disk in disks:
        _describe(parent, disk, place.scratch_of(disk), base)
    return ElementTree.tostring(root, encoding='unicode')


def _describe(
    parent: ElementTree.Element,
    disk: domain.Disk,
    path: str,
    base: Bitmap | None,
) -> None:
    backup = ElementTree.SubElement(
        parent,
        'disk',
        name=disk.target,
        backup='yes',
        type='file',
        exportname=disk.target,
    )
    if base is not None and base.disk == disk.target:
        backup.set('backupmode', 'incremental')
        backup.set('incremental', base.name)
        backup.set('exportbitmap', changes_of(disk.target))
    ElementTree.SubElement(backup, 'driver', type='qcow2')
    scratch = ElementTree.SubElement(backup, 'scratch', file=path)
    if disk.secret is not None:
        # Data that the guest has overwritten is not to lie on a disk in
        # plain text either.
        encryption = ElementTree.SubElement(
            scratch, 'encryption', format='luks'
        )
        ElementTree.SubElement(
            encryption, 'secret', type='passphrase', uuid=disk.secret
        )
