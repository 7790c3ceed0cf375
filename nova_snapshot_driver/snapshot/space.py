# SPDX-License-Identifier: Apache-2.0
"""The disk space that a snapshot needs on this host."""

from __future__ import annotations

import os

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import qemu_img
from nova_snapshot_driver.common import paths
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.way import Way
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot.plan.model import Method
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.state.workspace import Need
from nova_snapshot_driver.state.workspace import Place


def needs(
    guest: Guest, plan: Plan, root: str, place: Place | None
) -> list[Need]:
    """The space that is needed, by directory.

    The scratch files of a backup job come on top: nobody knows their size.

    :param root: ``[libvirt] snapshots_directory``
    :param place: where the images lie; None where they never do
    :raises UnsafeBackingFile: the chain of a source can't be read safely
    """
    found = []
    for planned in plan.disks:
        chain = _chain(guest, plan, planned)
        if plan.method is Method.MIRROR:
            delta = _delta_bytes(guest, planned, chain)
            found.append(Need(Place(root), delta))
        if place is not None:
            found.append(Need(place, _image_bytes(guest, plan, planned)))
    return found


def _image_bytes(guest: Guest, plan: Plan, planned: PlannedDisk) -> int:
    increment = plan.increment
    if increment is None or increment.way is Way.FULL:
        return _content_bytes(guest, planned)
    # A comparison alone finds out how much has changed.
    return increment.changed or 0


def disk_size(guest: Guest, disk: Disk, source: Layer) -> int:
    """The size in bytes of a disk, as the guest sees it.

    libvirt may not know it while the guest does not run: it looks a volume of
    a pool up only at the start, has a package of its own for Ceph, and takes
    an unknown format for raw.

    :param source: the topmost image of the disk
    """
    is_for_qemu_img = disk.rbd is None and not disk.encrypted
    if is_for_qemu_img and not guest.is_active():
        return qemu_img.virtual_size(source)
    try:
        return guest.capacity(disk)
    except exception.HypervisorError:
        return qemu_img.virtual_size(source)


def _chain(guest: Guest, plan: Plan, planned: PlannedDisk) -> list[Layer]:
    if plan.method in (Method.DIRECT, Method.BACKUP):
        # Ceph or QEMU reads the chain, and no process here opens it anew.
        return []
    return qemu_img.backing_chain(guest.name, planned.source)


def _delta_bytes(
    guest: Guest, planned: PlannedDisk, chain: list[Layer]
) -> int:
    content = _content_bytes(guest, planned)
    # Without a backing file the delta gets all of the content, whatever holes
    # and compressed clusters the source has. A block device allocates nothing.
    if not chain or not os.path.isfile(planned.source.path):
        return content
    return min(qemu_img.allocated_bytes(planned.source), content)


def _content_bytes(guest: Guest, planned: PlannedDisk) -> int:
    path = planned.source.path
    if planned.disk.encrypted or paths.is_shut(path):
        return guest.capacity(planned.disk)
    return qemu_img.content_bytes(planned.source)
