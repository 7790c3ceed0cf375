# SPDX-License-Identifier: Apache-2.0
"""All kinds of takings, in the order in which they are undone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nova_snapshot_driver.takings.agent_channel import AgentChannel
from nova_snapshot_driver.takings.bitmaps import NewBitmap
from nova_snapshot_driver.takings.bitmaps import OldBitmap
from nova_snapshot_driver.takings.ceph_clone import CephClone
from nova_snapshot_driver.takings.ceph_clone import CephSnapshot
from nova_snapshot_driver.takings.checkpoint_metadata import CheckpointMetadata
from nova_snapshot_driver.takings.cinder_snapshots import CinderSnapshots
from nova_snapshot_driver.takings.device import DetachedDevice
from nova_snapshot_driver.takings.draft import Draft
from nova_snapshot_driver.takings.freeze import Freeze
from nova_snapshot_driver.takings.glance_image import UnfinishedImage
from nova_snapshot_driver.takings.jobs import BackupJob
from nova_snapshot_driver.takings.jobs import BlockJob
from nova_snapshot_driver.takings.managed_save import ManagedSave
from nova_snapshot_driver.takings.pause import Pause
from nova_snapshot_driver.takings.shadow_volume import ShadowVolume
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.temporary_files import TemporaryFiles
from nova_snapshot_driver.takings.tools import UndoTools
from nova_snapshot_driver.takings.undefine import Undefine

#: A record of libvirt's that keeps a domain from being undefined comes first,
#: then a guest that stands still; what needs a server elsewhere comes last.
KINDS: tuple[type[Taking], ...] = (
    CheckpointMetadata,
    ManagedSave,
    Pause,
    Freeze,
    BackupJob,
    BlockJob,
    Undefine,
    DetachedDevice,
    AgentChannel,
    NewBitmap,
    OldBitmap,
    TemporaryFiles,
    Draft,
    CephSnapshot,
    CinderSnapshots,
    ShadowVolume,
    UnfinishedImage,
    CephClone,
)


def in_order(takings: Iterable[Taking]) -> tuple[Taking, ...]:
    """Takings as they are to be undone, each of them once."""
    return tuple(
        sorted(dict.fromkeys(takings), key=lambda each: _place(each.KIND))
    )


def suspected(tools: UndoTools) -> tuple[Taking, ...]:
    """All that may be taken from a domain though no journal says so."""
    return tuple(each for kind in KINDS for each in kind.suspected(tools))


def from_json(fields: dict[str, Any]) -> Taking:
    """
    :raises ValueError, TypeError, KeyError, AttributeError: JSON describes no
        taking
    """
    others = dict(fields)
    return KINDS[_place(others.pop('kind'))].from_json(others)


def _place(kind: str) -> int:
    return [each.KIND for each in KINDS].index(kind)
