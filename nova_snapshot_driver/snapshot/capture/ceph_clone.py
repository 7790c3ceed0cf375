# SPDX-License-Identifier: Apache-2.0
"""The way inside Ceph: a snapshot of the disk there, for a clone of it.

The guest is not concerned, whatever its state. If it runs, the file systems
stand still only for the moment in which the snapshot is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import rbd
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.clients.rbd import Ceph
from nova_snapshot_driver.clients.rbd import Clone
from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot.capture.base import CaptureTools
from nova_snapshot_driver.takings import ceph_clone

#: How long a freeze holds that the guest itself may lift, as Windows does, in
#: seconds.
FREEZE_LASTS = 10


def find(
    guest: Guest, ceph: Ceph, disk: RbdImage, glance: Glance, image: str
) -> Clone:
    """Name the clone that Ceph is to make, without making it.

    Glance does not say in which pool it keeps its images. Take the pool of
    the image of the guest, as ``Rbd.direct_snapshot`` in Nova does.

    :param image: the id of the new image in Glance
    :raises CloneRefused: Ceph can't make one
    """
    with rbd.refusals(guest.name):
        cluster = ceph.cluster()
        parent = ceph.parent(disk)
    if parent is not None:
        pool: str | None = parent[0].pool
    else:
        pool = _pool_of(guest.describe().base_image, glance, cluster)
    if pool is None:
        raise exception.CloneRefused(
            domain=guest.name,
            reason=f'nobody knows the pool of Glance: {disk} is no clone, and '
            'Glance shows no location in this cluster for the image that it '
            'was made from',
        )
    return Clone(
        disk, f'nova-snapshot-{image}', RbdImage(pool, image), cluster
    )


def _pool_of(image: str | None, glance: Glance, cluster: str) -> str | None:
    if image is None:
        return None
    try:
        locations = glance.locations(image)
    except exception.GlanceError:
        # The image may be deleted, or another project's.
        return None
    pools = (rbd.pool_in(location, cluster) for location in locations)
    return next((pool for pool in pools if pool), None)


@contextlib.contextmanager
def captured(
    guest: Guest, clone: Clone, tools: CaptureTools
) -> Iterator[Clone]:
    """The disk at one instant, to be cloned.

    :param clone: that Ceph is to make, as ``find()`` has named it
    :raises CloneRefused: Ceph refuses the snapshot
    :raises CephError: the snapshot has failed
    :raises QuiesceFailed: quiescing is required and failed
    """
    ceph = tools.undo.ceph(clone.disk.user)
    tools.quiesce.check()
    with _removed(guest, ceph, clone):
        with rbd.refusals(guest.name):
            with tools.quiesce.frozen():
                _create(guest, ceph, clone, tools)
            ceph.protect(clone.disk, clone.snapshot)
        yield clone


def _create(
    guest: Guest, ceph: Ceph, clone: Clone, tools: CaptureTools
) -> None:
    if not tools.quiesce.done:
        ceph.create_snapshot(clone.disk, clone.snapshot, rbd.TIMEOUT)
        return
    timeout = min(tools.undo.settings.stall_timeout, FREEZE_LASTS)
    try:
        ceph.create_snapshot(clone.disk, clone.snapshot, timeout)
    except exception.CephTimeout as error:
        # Ceph may be busy, and a frozen guest can't wait.
        raise exception.CloneRefused(
            domain=guest.name, reason=str(error)
        ) from error


@contextlib.contextmanager
def _removed(guest: Guest, ceph: Ceph, clone: Clone) -> Iterator[None]:
    """Remove the snapshot of the disk afterwards.

    Nova can't delete a disk that has a snapshot.
    """
    patience = 0
    try:
        yield
    except exception.SnapshotError as error:
        # The command may have been broken off while the guest's QEMU was
        # creating the snapshot.
        if exception.CephTimeout in (type(error), type(error.__cause__)):
            patience = rbd.LATE_SNAPSHOT
        raise
    finally:
        ceph_clone.remove_snapshot(guest.name, ceph, clone, patience)
