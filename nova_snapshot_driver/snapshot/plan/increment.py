# SPDX-License-Identifier: Apache-2.0
"""The model of an increment: its ways, and what they depend on."""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver.common.way import Way
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.checkpoint_xml import Tracking
from nova_snapshot_driver.snapshot.plan.grounds import Ground

#: How what has changed is found, in words.
WORDS = {Way.BITMAP: 'by bitmap', Way.COMPARE: 'by comparison'}


@dataclasses.dataclass(frozen=True)
class Base:
    """The snapshot before, which an increment builds on.

    :ivar size: of the disk then, in bytes
    :ivar bitmap: that began at its instant; None for none
    :ivar has_hashes: the hashes of its chunks are there, and are right
    :ivar is_far_up: as many images are beneath as can be opened in time
    :ivar lost: why the bitmap is of no use; None where it may be
    """

    name: str
    size: int
    bitmap: Bitmap | None
    has_hashes: bool
    is_far_up: bool = False
    lost: Ground | None = None


@dataclasses.dataclass(frozen=True)
class Keeping:
    """How a destination keeps what has changed since the snapshot before.

    :ivar format: of the images
    :ivar format_reason: in words
    """

    format: str
    format_reason: str


@dataclasses.dataclass(frozen=True)
class Known:
    """The facts that the way of an increment depends on.

    :ivar base: None where there is no snapshot before
    :ivar size: of the disk now, in bytes
    :ivar changed: the bytes that the bitmap of the base has; None where it is
        of no use
    :ivar lost: why that is so
    :ivar untracked: why no bitmap can be used; None where one can
    :ivar fresh: a bitmap that may be begun
    """

    base: Base | None
    size: int
    changed: int | None
    lost: Ground | None
    untracked: Ground | None
    fresh: Bitmap


@dataclasses.dataclass(frozen=True)
class Increment:
    """How one disk of a plan is taken.

    :ivar base: that the increment builds on; None for a full one
    :ivar tracking: the bitmaps of the backup job
    :ivar changed: the most bytes that are written; None where nobody knows
    """

    way: Way
    reason: Ground
    base: Base | None
    tracking: Tracking
    changed: int | None

    def __str__(self) -> str:
        if self.base is None:
            return f'full ({self.reason})'
        return (
            f'increment of {self.base.name}, {WORDS[self.way]} ({self.reason})'
        )
