# SPDX-License-Identifier: Apache-2.0
"""The sources of servers: images, a flavor, types of volumes."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from lab.cloud.storage import BACKEND
from lab.witness import WitnessImage

#: The image and the flavor that every project can use.
IMAGE = 'witness'
FLAVOR = 'tiny'

#: The image in a format in which Ceph can clone it.
RAW_IMAGE = 'witness-raw'

#: The types of volumes. The first one is the default.
VOLUME_TYPE = BACKEND
MULTIATTACH = 'multiattach'
LUKS = 'luks'

_VOLUME_TYPES: Mapping[str, Mapping[str, str]] = {
    VOLUME_TYPE: {},
    MULTIATTACH: {'multiattach': '<is> True'},
    LUKS: {},
}


def ensure_content(admin: Connection) -> None:
    """Upload the image, make the flavor, unless they are there."""
    _ensure_image(admin, IMAGE, WitnessImage.build().base_qcow2, 'qcow2')
    if admin.compute.find_flavor(FLAVOR) is None:
        admin.compute.create_flavor(name=FLAVOR, ram=256, vcpus=1, disk=1)


def ensure_content_of_ceph(admin: Connection) -> None:
    """Upload the other image, make the types of volumes, likewise."""
    _ensure_image(admin, RAW_IMAGE, WitnessImage.build().base_raw, 'raw')
    # A type of the SDK that may be a proxy of version 2, which Cinder lacks.
    cinder: Any = admin.block_storage
    types = {kind.name for kind in cinder.types()}
    for name, specifications in _VOLUME_TYPES.items():
        if name not in types:
            kind = cinder.create_type(
                name=name,
                extra_specs={'volume_backend_name': BACKEND, **specifications},
            )
            if name == LUKS:
                cinder.create_type_encryption(
                    kind,
                    provider='luks',
                    cipher='aes-xts-plain64',
                    key_size=256,
                    control_location='front-end',
                )


def volumes_to_boot_from(image: str, data: int = 0) -> list[dict[str, Any]]:
    """The block devices of a server without a local disk, 1 GiB each.

    They are deleted with the server.

    :param image: the id of what is on the first one
    :param data: how many empty ones there are beside
    """
    root = {'boot_index': 0, 'uuid': image, 'source_type': 'image'}
    empty = {'boot_index': -1, 'source_type': 'blank'}
    return [
        {
            **device,
            'destination_type': 'volume',
            'volume_size': 1,
            'delete_on_termination': True,
        }
        for device in (root, *[empty] * data)
    ]


def _ensure_image(
    admin: Connection, name: str, file: Path, disk_format: str
) -> None:
    with file.open('rb') as content:
        digest = hashlib.file_digest(content, 'sha512').hexdigest()
    # A type of the SDK that may be a proxy of version 1, which Glance lacks.
    glance: Any = admin.image
    for image in glance.images(name=name, owner=admin.current_project_id):
        if image.hash_value == digest and image.status == 'active':
            return
        glance.delete_image(image)
    glance.create_image(
        name,
        filename=str(file),
        disk_format=disk_format,
        container_format='bare',
        visibility='public',
        hw_qemu_guest_agent='yes',
        os_type='linux',
    )
