# SPDX-License-Identifier: Apache-2.0
"""A domain whose root disk is a volume in Cinder, without Nova's database.

The block device mappings are in that database alone. Here they are told from
the domain, where Nova writes the id of a volume as the serial of its disk.
"""

from __future__ import annotations

import uuid
from typing import Any

from nova_snapshot_driver.clients.cinder import Volume
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.domain import Domain
from nova_snapshot_driver.snapshot.plan.instance import AttachedVolume
from nova_snapshot_driver.snapshot.plan.instance import BlockDevices

#: The fields of a mapping in an image; most are not known of a volume. Source:
#: ``nova.block_device.BlockDeviceDict``.
_FIELDS = (
    *('boot_index', 'delete_on_termination', 'destination_type'),
    *('device_name', 'device_type', 'disk_bus', 'encrypted'),
    *('encryption_format', 'encryption_options', 'encryption_secret_uuid'),
    *('guest_format', 'image_id', 'no_device', 'snapshot_id', 'source_type'),
    *('tag', 'volume_id', 'volume_size', 'volume_type'),
)

#: The fields of its image that Cinder keeps on a volume beside the image
#: properties (``nova.utils``, ``VIM_IMAGE_ATTRIBUTES``).
_NO_PROPERTIES = frozenset(
    {
        'checksum',
        'container_format',
        'disk_format',
        'image_id',
        'image_name',
        'min_disk',
        'min_ram',
        'size',
    }
)


def root_volume(domain: Domain) -> str | None:
    """The id of the volume that is the root disk; None if it is no volume.

    Any disk may have a serial, even one that looks like an id: where Nova has
    not made the domain, a disk that lies on this host is no volume.
    """
    disk = domain.root_disk
    if disk is None or domain.base_image is not None:
        return None
    is_novas = domain.project_id is not None
    return _volume(disk) if is_novas or disk.path is None else None


def volumes_of(domain: Domain) -> list[str]:
    """The ids of all its volumes, in the order of its disks."""
    return [volume for disk in domain.disks if (volume := _volume(disk))]


def block_devices(domain: Domain, volumes: list[Volume]) -> BlockDevices:
    """The block devices of a domain, as an image of it has them.

    :param volumes: those of ``volumes_of()``
    """
    sizes = {volume.id: volume.size for volume in volumes}
    return BlockDevices(
        tuple(
            AttachedVolume(
                volume,
                _mapping(disk, sizes[volume], disk is domain.root_disk),
            )
            for disk in domain.disks
            if (volume := _volume(disk))
        )
    )


def first_properties(domain: Domain, root: Volume) -> dict[str, Any]:
    """The properties that nova-api writes on an image of volumes."""
    base = root.image_properties
    disk = domain.root_disk
    return {
        **{
            name: value
            for name, value in base.items()
            if name not in _NO_PROPERTIES
        },
        'base_image_ref': '',
        'root_device_name': f'/dev/{disk.target}' if disk else None,
        'min_disk': int(base.get('min_disk') or 0),
        'min_ram': int(base.get('min_ram') or 0),
    }


def _volume(disk: Disk) -> str | None:
    try:
        return str(uuid.UUID(disk.serial))
    except (TypeError, ValueError):
        return None


def _mapping(disk: Disk, size: int, is_root: bool) -> dict[str, Any]:
    return {
        **dict.fromkeys(_FIELDS),
        'source_type': 'snapshot',
        'destination_type': 'volume',
        'device_name': f'/dev/{disk.target}',
        'device_type': disk.device,
        'disk_bus': disk.bus,
        'boot_index': 0 if is_root else None,
        'volume_size': size,
        'delete_on_termination': False,
    }
