# SPDX-License-Identifier: Apache-2.0
"""What a server is made from: an image and a flavor."""

import hashlib
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from tests.lab.witness import WitnessImage

#: The image and the flavor that every project can use.
IMAGE = 'witness'
FLAVOR = 'tiny'


def ensure_content(admin: Connection) -> None:
    """Upload the image, make the flavor, unless they are there."""
    _ensure_image(admin, WitnessImage.build().base_qcow2)
    if admin.compute.find_flavor(FLAVOR) is None:
        admin.compute.create_flavor(name=FLAVOR, ram=256, vcpus=1, disk=1)


def _ensure_image(admin: Connection, file: Path) -> None:
    with file.open('rb') as content:
        digest = hashlib.file_digest(content, 'sha512').hexdigest()
    # By its type it may be one of version 1, which Glance has no more.
    glance: Any = admin.image
    for image in glance.images(name=IMAGE, owner=admin.current_project_id):
        if image.hash_value == digest and image.status == 'active':
            return
        glance.delete_image(image)
    glance.create_image(
        IMAGE,
        filename=str(file),
        disk_format='qcow2',
        container_format='bare',
        visibility='public',
        hw_qemu_guest_agent='yes',
        os_type='linux',
    )
