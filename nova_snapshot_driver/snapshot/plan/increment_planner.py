# SPDX-License-Identifier: Apache-2.0
"""How an increment finds what has changed since the snapshot before it.

Everything is decided from what is known beforehand, without any input or
output.
"""

from __future__ import annotations

from nova_snapshot_driver.common.way import Way
from nova_snapshot_driver.hypervisor.checkpoint_xml import Tracking
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.increment import Increment
from nova_snapshot_driver.snapshot.plan.increment import Known
from nova_snapshot_driver.snapshot.plan.model import Method

#: The format of images in which QEMU keeps bitmaps.
TRACKED_FORMAT = 'qcow2'


def make_increment(known: Known, method: Method, disk: Disk) -> Increment:
    """Decide how what has changed is found, and what is recorded from now on.

    :param method: by which the disk is captured
    """
    untracked = _obstacle_to_bitmaps(known, method, disk)
    new = known.fresh if untracked is None else None
    base = known.base
    no_base = _obstacle_to_increment(known)
    if base is None or no_base is not None:
        return Increment(
            Way.FULL,
            no_base or Ground(Words.FIRST),
            None,
            Tracking(new=new),
            None,
        )
    no_bitmap = untracked or known.lost
    if no_bitmap is not None:
        return Increment(Way.COMPARE, no_bitmap, base, Tracking(new=new), None)
    return Increment(
        Way.BITMAP,
        Ground(Words.TRACKED),
        base,
        Tracking(base.bitmap, new),
        known.changed,
    )


def _obstacle_to_increment(known: Known) -> Ground | None:
    if known.base is None:
        return Ground(Words.FIRST)
    if known.size < known.base.size:
        return Ground(Words.SHRUNK)
    if known.base.is_far_up:
        return Ground(Words.FAR_UP)
    if not known.base.has_hashes:
        return Ground(Words.NO_HASHES, known.base.name)
    return None


def _obstacle_to_bitmaps(
    known: Known, method: Method, disk: Disk
) -> Ground | None:
    if method is not Method.BACKUP:
        return Ground(Words.OTHER_METHOD, method.value)
    if disk.format != TRACKED_FORMAT:
        return Ground(Words.OTHER_FORMAT, disk.format)
    return known.untracked
