# SPDX-License-Identifier: Apache-2.0
"""The facts that the way of an increment depends on."""

from __future__ import annotations

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot import space
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.increment import Base
from nova_snapshot_driver.snapshot.plan.increment import Known
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.takings import checkpoint_metadata


def of(
    guest: Guest,
    planned: PlannedDisk,
    base: Base | None,
    untracked: Ground | None,
    new_bitmap: str,
) -> Known:
    """
    :param base: the snapshot before; None where there is none
    :param untracked: why no bitmap can be used; None where one can
    :param new_bitmap: the name of the one that may be begun
    """
    if base is not None and base.lost is not None:
        changed: int | None = None
        lost: Ground | None = base.lost
    else:
        changed, lost = _recorded(guest, None if base is None else base.bitmap)
    return Known(
        base=base,
        size=space.disk_size(guest, planned.disk, planned.source),
        changed=changed,
        lost=lost,
        untracked=untracked,
        fresh=Bitmap(planned.target, new_bitmap),
    )


def _recorded(
    guest: Guest, bitmap: Bitmap | None
) -> tuple[int | None, Ground | None]:
    """
    :returns: the bytes that have changed by a bitmap; or None, and why nobody
        can tell
    """
    if bitmap is None:
        return None, Ground(Words.NO_BITMAP)
    try:
        return guest.checkpoints.dirty_bytes(bitmap), None
    except exception.BitmapLost as error:
        return None, Ground(Words.BITMAP_LOST, error.fields['reason'])
    except exception.HypervisorError as error:
        return None, Ground(Words.NOT_RECORDED, error.fields['reason'])
    finally:
        undo.retry_undo(
            guest.name,
            checkpoint_metadata.FORGET,
            guest.checkpoints.forget,
            checkpoint_metadata.remedy(guest.name),
        )
