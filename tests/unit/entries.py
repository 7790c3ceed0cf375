# SPDX-License-Identifier: Apache-2.0
"""Entries of the journal, by what a snapshot may have taken."""

from __future__ import annotations

from collections.abc import Iterable

from nova_snapshot_driver.clients.rbd import Clone
from nova_snapshot_driver.common.codec import FilePath
from nova_snapshot_driver.hypervisor.checkpoint_xml import Tracking
from nova_snapshot_driver.hypervisor.domain import HostDevice
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Definition
from nova_snapshot_driver.state.entry import Entry
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
from nova_snapshot_driver.takings.managed_save import ManagedSave
from nova_snapshot_driver.takings.pause import Pause
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.temporary_files import TemporaryFiles
from nova_snapshot_driver.takings.undefine import Undefine


def taken(
    definition: Definition,
    *,
    persistent: bool = True,
    power_state: PowerState | None = None,
    devices: Iterable[HostDevice] = (),
    agent: HostDevice | None = None,
    frozen: bool = False,
    image: str | None = None,
    volumes: tuple[str, ...] = (),
    paused: bool = False,
    clone: Clone | None = None,
    directories: Iterable[str] = (),
    draft: str | None = None,
    tracking: Tracking | None = None,
    record: str = '/backup/monday.json',
    project: str | None = None,
) -> Entry:
    """The entry of a snapshot that may have taken this from a domain.

    :param persistent: the definition may be taken
    :param record: of the snapshot that has these bitmaps
    :param project: of the image
    """
    takings: list[Taking] = [
        *(TemporaryFiles(FilePath(each)) for each in directories),
        *map(DetachedDevice, devices),
    ]
    if persistent:
        takings.append(Undefine(definition))
    if power_state is not None:
        takings.append(ManagedSave(power_state))
    if agent is not None:
        takings.append(AgentChannel(agent))
    if frozen:
        takings.append(Freeze())
    if paused:
        takings.append(Pause())
    if clone is not None:
        takings += [CephSnapshot(clone), CephClone(clone)]
    if image is not None:
        takings.append(UnfinishedImage(image, project))
        if volumes:
            takings.append(CinderSnapshots(image, volumes, project))
    if draft is not None:
        takings.append(Draft(FilePath(draft)))
    if tracking is not None:
        takings.append(CheckpointMetadata())
        if tracking.new is not None:
            takings.append(NewBitmap(tracking.new, FilePath(record)))
        if tracking.base is not None:
            takings.append(OldBitmap(tracking.base, FilePath(record)))
    return Entry(definition.name, definition.uuid, tuple(takings))


def image_of(entry: Entry | None) -> str | None:
    """The image in Glance that an entry knows to be unfinished."""
    images = [] if entry is None else entry.of_kind(UnfinishedImage)
    return next((each.image for each in images), None)
