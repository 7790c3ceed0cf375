# SPDX-License-Identifier: Apache-2.0
"""An entry of the journal as the former version has written it.

A host that is upgraded while a snapshot of it is dead has one.
"""

from __future__ import annotations

from typing import Any

from nova_snapshot_driver.clients.rbd import Clone
from nova_snapshot_driver.common import codec
from nova_snapshot_driver.common.codec import FilePath
from nova_snapshot_driver.hypervisor.domain import HostDevice
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Definition
from nova_snapshot_driver.takings.agent_channel import AgentChannel
from nova_snapshot_driver.takings.ceph_clone import CephClone
from nova_snapshot_driver.takings.ceph_clone import CephSnapshot
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

VERSION = 1

#: The fields, and what each stands for that is not there.
_KINDS: dict[str, tuple[Any, Any]] = {
    'persistent': (bool, False),
    'power_state': (PowerState | None, None),
    'devices': (tuple[HostDevice, ...], []),
    'agent': (HostDevice | None, None),
    'frozen': (bool, False),
    'image': (str | None, None),
    'volumes': (tuple[str, ...], []),
    'paused': (bool, False),
    'clone': (Clone | None, None),
    'directories': (tuple[FilePath, ...], []),
    'draft': (FilePath | None, None),
}


def read(fields: dict[str, Any]) -> tuple[str, str, tuple[Taking, ...]]:
    """The name and the UUID of the domain, and what was taken.

    :raises ValueError, TypeError, KeyError: it is no such entry
    """
    definition = codec.built(Definition, fields.pop('definition'))
    if not set(fields) <= set(_KINDS):
        raise ValueError('it has other fields')
    found = {
        name: codec.built(kind, fields.get(name, default))
        for name, (kind, default) in _KINDS.items()
    }
    return definition.name, definition.uuid, _takings(definition, **found)


def _takings(
    definition: Definition,
    persistent: bool,
    power_state: PowerState | None,
    devices: tuple[HostDevice, ...],
    agent: HostDevice | None,
    frozen: bool,
    image: str | None,
    volumes: tuple[str, ...],
    paused: bool,
    clone: Clone | None,
    directories: tuple[FilePath, ...],
    draft: FilePath | None,
) -> tuple[Taking, ...]:
    return (
        *([Undefine(definition)] if persistent else []),
        *([ManagedSave(power_state)] if power_state is not None else []),
        *map(DetachedDevice, devices),
        *([AgentChannel(agent)] if agent is not None else []),
        *([Freeze()] if frozen else []),
        *([Pause()] if paused else []),
        *map(TemporaryFiles, directories),
        *([Draft(draft)] if draft is not None else []),
        *([CephSnapshot(clone), CephClone(clone)] if clone else []),
        *([CinderSnapshots(image, volumes)] if image and volumes else []),
        *([UnfinishedImage(image)] if image is not None else []),
    )
