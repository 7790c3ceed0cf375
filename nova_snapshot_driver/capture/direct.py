# SPDX-License-Identifier: Apache-2.0
"""The way inside Ceph: a snapshot of the disk there, for a clone of it.

The guest is not concerned, whatever its state. If it runs, the file systems
stand still only for the moment in which the snapshot is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver import rbd
from nova_snapshot_driver import undo
from nova_snapshot_driver.capture import Means
from nova_snapshot_driver.domain import RbdImage
from nova_snapshot_driver.glance import Glance
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.rbd import Ceph
from nova_snapshot_driver.rbd import Clone


def find(
    guest: Guest, ceph: Ceph, disk: RbdImage, glance: Glance, image: str
) -> Clone:
    """What is to be made in Ceph; nothing is, yet.

    Nobody says in which pool Glance keeps its images. It is the one in which
    the image of the guest is, as ``Rbd.direct_snapshot`` in Nova has it.

    :param image: the id that it is to be in Glance
    :raises DirectRefused: nothing can be made there
    """
    with rbd.refusals(guest.name):
        cluster = ceph.cluster()
        parent = ceph.parent(disk)
    if parent is not None:
        pool: str | None = parent[0].pool
    else:
        pool = _pool_of(guest.describe().base_image, glance, cluster)
    if pool is None:
        raise exception.DirectRefused(
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
        # It may be deleted, or another project's.
        return None
    pools = (rbd.pool_in(location, cluster) for location in locations)
    return next((pool for pool in pools if pool), None)


@contextlib.contextmanager
def view(guest: Guest, plan: Plan, means: Means) -> Iterator[Clone]:
    """The disk at one instant, to be cloned.

    :raises DirectRefused: Ceph does not do it
    :raises CephError: it has gone wrong
    :raises QuiesceFailed: quiescing is required and failed
    """
    clone = means.clone
    assert clone is not None  # noqa: S101 (for mypy)
    ceph = Ceph(means.conf, clone.disk.user)
    means.quiesce.check()
    with _removed(guest, ceph, clone):
        with rbd.refusals(guest.name):
            with means.quiesce.frozen():
                _create(guest, ceph, clone, means)
            ceph.protect(clone.disk, clone.snapshot)
        yield clone


def _create(guest: Guest, ceph: Ceph, clone: Clone, means: Means) -> None:
    if not means.quiesce.done:
        ceph.create_snapshot(clone.disk, clone.snapshot, rbd.TIMEOUT)
        return
    try:
        # Whoever thaws by himself does so after the time of an answer.
        ceph.create_snapshot(
            clone.disk, clone.snapshot, means.conf.snapshot.quiesce_timeout
        )
    except exception.CephTimeout as error:
        # It may be busy, and a guest that stands still can't wait.
        raise exception.DirectRefused(
            domain=guest.name, reason=str(error)
        ) from error


@contextlib.contextmanager
def _removed(guest: Guest, ceph: Ceph, clone: Clone) -> Iterator[None]:
    """The snapshot of the disk is gone afterwards.

    Nova could not delete a disk that has one.
    """
    patience = 0
    try:
        yield
    except exception.SnapshotError as error:
        # It may have been broken off while the guest's QEMU was at it.
        if exception.CephTimeout in (type(error), type(error.__cause__)):
            patience = rbd.LATE_SNAPSHOT
        raise
    finally:
        remove_snapshot(guest.name, ceph, clone, patience)


def remove_snapshot(
    domain: str, ceph: Ceph, clone: Clone, patience: float = 0
) -> None:
    """See that the disk has no snapshot of ours.

    :param patience: the seconds after which it will not come any more
    :raises NotGivenBack: Ceph does not do it
    """
    at = f'{clone.disk}@{clone.snapshot}'
    undo.surely(
        domain,
        f'remove the snapshot {at} in Ceph',
        lambda: ceph.remove_snapshot(clone.disk, clone.snapshot, patience),
        f'Remove it with "rbd snap unprotect {at}" and "rbd snap rm {at}": '
        'with it the disk can not be deleted. The next snapshot of the domain '
        'tries it again.',
    )


def remove_clone(domain: str, ceph: Ceph, clone: Clone) -> None:
    """See that there is no clone which is to be no image.

    :raises NotGivenBack: Ceph does not do it
    """
    undo.surely(
        domain,
        f'remove the clone {clone.image} in Ceph',
        lambda: ceph.remove(clone.image),
        f'Remove it with "rbd snap purge {clone.image}" and "rbd rm '
        f'{clone.image}". The next snapshot of the domain tries it again.',
    )
