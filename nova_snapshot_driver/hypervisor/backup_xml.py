# SPDX-License-Identifier: Apache-2.0
"""The documents in which libvirt is told of a backup job, and tells of it.

Source: https://libvirt.org/formatbackup.html
"""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

from nova_snapshot_driver.hypervisor import domain
from nova_snapshot_driver.hypervisor import libvirt_xml


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the files of a job lie.

    :ivar socket: the Unix socket of the export, which is called as the disk
    :ivar scratch: the file with what the guest overwrites; that of an
        encrypted disk is made before the job, by ``qemu-img``
    """

    socket: str
    scratch: str


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


def document(disk: domain.Disk, place: Place) -> str:
    """The document of a job in pull mode, for ``virDomainBackupBegin``.

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
        # Data that the guest has overwritten is not to lie on a disk in
        # plain text either.
        encryption = ElementTree.SubElement(
            scratch, 'encryption', format='luks'
        )
        ElementTree.SubElement(
            encryption, 'secret', type='passphrase', uuid=disk.secret
        )
    return ElementTree.tostring(root, encoding='unicode')
