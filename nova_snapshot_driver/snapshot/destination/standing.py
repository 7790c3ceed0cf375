# SPDX-License-Identifier: Apache-2.0
"""The state of a shadow: its volume, and the snapshots that Cinder has of it.

All of it is in Cinder's metadata, which the owner of the volume may write too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Self

from oslo_utils import uuidutils

from nova_snapshot_driver.clients import cinder
from nova_snapshot_driver.clients.cinder import Volume
from nova_snapshot_driver.clients.cinder import VolumeSnapshot
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.takings import cinder_snapshots

#: The metadata of a snapshot of a shadow, beside ``cinder_snapshots.MARK``.
SIZE = 'nova_snapshot_size'
TREE = 'nova_snapshot_tree'
BITMAP = 'nova_snapshot_bitmap'

#: When the volume was changed last, once the snapshot was complete: whoever
#: attaches the volume afterwards changes that time. It is written last.
SETTLED = 'nova_snapshot_settled'

_TREE = re.compile(r'[0-9a-f]{64}')


@dataclasses.dataclass(frozen=True)
class ShadowSnapshot:
    """A snapshot of a shadow that is complete and proven.

    :ivar image: the id of the image that maps it
    :ivar size: of the disk then, in bytes
    :ivar tree: the hash over those of all chunks of the disk
    :ivar bitmap: that began at its instant; None for none
    :ivar settled: when the volume was changed last, as Cinder writes it
    :ivar gigabytes: the size of the volume then, in GiB
    """

    id: str
    image: str
    size: int
    tree: str
    bitmap: str | None
    settled: str
    gigabytes: int
    created_at: str

    @classmethod
    def of(cls, snapshot: VolumeSnapshot) -> Self | None:
        """
        :returns: None for one that is not complete, or is a stranger's; the
            owner of the volume may write any metadata
        """
        metadata = snapshot.metadata
        image = metadata.get(cinder_snapshots.MARK, '')
        size, tree = metadata.get(SIZE, ''), metadata.get(TREE, '')
        bitmap, settled = metadata.get(BITMAP, ''), metadata.get(SETTLED)
        if not (
            snapshot.status == cinder.AVAILABLE
            and settled
            and uuidutils.is_uuid_like(image)
            and size.isdecimal()
            and _TREE.fullmatch(tree)
            and (not bitmap or naming.is_bitmap(bitmap, naming.VOLUME_BITMAP))
        ):
            return None
        return cls(
            id=snapshot.id,
            image=image,
            size=int(size),
            tree=tree,
            bitmap=bitmap or None,
            settled=settled,
            gigabytes=snapshot.size,
            created_at=snapshot.created_at,
        )


@dataclasses.dataclass(frozen=True)
class Standing:
    """A shadow as Cinder shows it.

    :ivar snapshots: all that Cinder has of it
    :ivar complete: those that are complete, oldest first
    :ivar distrust: why it has other content than its newest snapshot, for
        good; None where nobody has found that
    """

    volume: Volume
    snapshots: tuple[VolumeSnapshot, ...]
    complete: tuple[ShadowSnapshot, ...]
    distrust: str | None = None

    @classmethod
    def of(
        cls,
        volume: Volume,
        snapshots: Iterable[VolumeSnapshot],
        distrust: str | None,
    ) -> Self:
        everything = tuple(snapshots)
        complete = filter(None, map(ShadowSnapshot.of, everything))
        by_age = sorted(complete, key=lambda each: each.created_at)
        return cls(volume, everything, tuple(by_age), distrust)

    @property
    def newest(self) -> ShadowSnapshot | None:
        return self.complete[-1] if self.complete else None

    @property
    def is_settled(self) -> bool:
        """Whether nobody has attached it since its newest snapshot."""
        return (
            self.newest is not None
            and self.volume.status == cinder.AVAILABLE
            and self.volume.updated_at == self.newest.settled
        )

    @property
    def may_be_reverted(self) -> bool:
        """Whether Cinder may take it back to its newest snapshot."""
        newest = self.newest
        return (
            newest is not None
            and newest.gigabytes == self.volume.size
            and all(
                each.created_at <= newest.created_at for each in self.snapshots
            )
        )

    @property
    def doubt(self) -> str | None:
        """Why it can't be had as it was at its newest snapshot."""
        if self.newest is None:
            return 'it has no snapshot that is complete'
        if self.distrust is not None:
            return self.distrust
        if self.is_settled or self.may_be_reverted:
            return None
        return 'somebody has attached, extended or snapshotted it'
