# SPDX-License-Identifier: Apache-2.0
"""Disks that are given as volumes of libvirt's storage pools.

libvirt looks the volume up when it starts the guest, and leaves the domain as
it is: the document of a guest that runs does not say either where the volume
lies. Source: ``virDomainDiskTranslateSourcePool`` in libvirt.
"""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.hypervisor import libvirt_xml
from nova_snapshot_driver.hypervisor.bindings import libvirt
from nova_snapshot_driver.hypervisor.disk_elements import Refusal
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.domain import Volume
from nova_snapshot_driver.hypervisor.libvirt_objects import LibvirtObject

#: The type of disk that a volume with a path on this host makes.
_ON_THIS_HOST = {
    libvirt.VIR_STORAGE_VOL_FILE: 'file',
    libvirt.VIR_STORAGE_VOL_BLOCK: 'block',
}

#: Pools whose volumes have a path on this host.
_KINDS_ON_THIS_HOST = (
    *('dir', 'fs', 'netfs', 'vstorage'),
    *('logical', 'disk', 'scsi', 'iscsi', 'zfs'),
)


def located(connection: LibvirtObject, disk: Disk) -> Disk:
    """A disk, with the file, device or image in Ceph that its volume is.

    :param connection: a ``virConnect``
    :param disk: one that is a volume of a pool
    :returns: the disk; where the volume is not found, or is nothing that is
        served, with a refusal that says so
    """
    volume = disk.volume
    assert volume is not None  # noqa: S101 (for mypy)
    try:
        pool = connection.storagePoolLookupByName(volume.pool)
        root = libvirt_xml.parsed(pool.XMLDesc(), 'a storage pool')
        found = pool.storageVolLookupByName(volume.name)
        kind, path = found.info()[0], found.path()
    except libvirt.libvirtError as error:
        return _refused(
            disk,
            volume,
            'libvirt does not find the volume: '
            f'{error.get_error_message() or error}. See "virsh pool-list '
            '--all" and "virsh vol-list"',
        )
    of_pool = root.get('type', '')
    if of_pool == 'rbd':
        return dataclasses.replace(
            disk, source='network', rbd=_rbd(root, volume)
        )
    if of_pool in _KINDS_ON_THIS_HOST and kind in _ON_THIS_HOST:
        return dataclasses.replace(disk, source=_ON_THIS_HOST[kind], path=path)
    return _refused(
        disk, volume, f'volumes of a pool of the type {of_pool} are not served'
    )


def _rbd(pool: ElementTree.Element, volume: Volume) -> RbdImage:
    auth = pool.find('source/auth')
    return RbdImage(
        pool.findtext('source/name', ''),
        volume.name,
        None if auth is None else auth.get('username'),
    )


def _refused(disk: Disk, volume: Volume, why: str) -> Disk:
    refusal = Refusal(f'the volume {volume}', why)
    return dataclasses.replace(disk, refusals=(*disk.refusals, refusal))
