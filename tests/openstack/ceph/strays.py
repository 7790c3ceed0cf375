# SPDX-License-Identifier: Apache-2.0
"""Strays in Ceph: images and snapshots that belong to nobody."""

from __future__ import annotations

import json
from typing import Any

from lab.cloud.ceph import Ceph


def strays(ceph: Ceph, glance: Any) -> set[str]:
    """Snapshots of root disks, and what Glance has and does not know.

    :param glance: the images that an administrator sees
    """
    snapshots = {
        f'vms/{disk}@{snapshot["name"]}'
        for disk in ceph.rbd('ls', 'vms').split()
        for snapshot in json.loads(
            ceph.rbd('snap', 'ls', f'vms/{disk}', '--format', 'json')
        )
    }
    there = set(ceph.rbd('ls', 'images').split())
    # Asked for afterwards: an image is in Glance before it is in Ceph.
    known = {image.id for image in glance.images()}
    return snapshots | {f'images/{name}' for name in there - known}
