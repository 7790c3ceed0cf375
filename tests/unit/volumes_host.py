# SPDX-License-Identifier: Apache-2.0
"""A host with one guest, whose disks are volumes in Cinder."""

from __future__ import annotations

import logging
from typing import Any

import libvirt

from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.snapshot.plan.instance import AttachedVolume
from nova_snapshot_driver.snapshot.plan.instance import BlockDevices
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from tests import laws
from tests.unit import documents
from tests.unit.fake_libvirt import Agent
from tests.unit.host import FakeHost

#: A device of an instance that is no volume.
SWAP = {'source_type': 'blank', 'destination_type': 'local'}


#: The metadata of an instance that was not made from an image.
METADATA = documents.METADATA.replace(
    f'      <nova:root type="image" uuid="{documents.BASE_IMAGE}"/>\n', ''
)


def volume_ids(number: int) -> tuple[str, ...]:
    return tuple(f'{n:08d}-1c57-4b8e-8f49-3f6f0fd1a1b2' for n in range(number))


def volume_disk(volume: str, target: str) -> str:
    """A disk as Nova writes it for a volume in Ceph."""
    return f"""\
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw' cache='writeback' discard='unmap'/>
      <source protocol='rbd' name='volumes/volume-{volume}'>
        <host name='10.0.0.1' port='6789'/>
      </source>
      <target dev='{target}' bus='virtio'/>
      <serial>{volume}</serial>
    </disk>
"""


class VolumesHost(FakeHost):
    """
    :param volumes: how many its guest has
    :ivar instants: for each snapshot of a volume, whether the guest was frozen
        and whether it was running
    """

    metadata = METADATA

    def __init__(
        self,
        volumes: int = 3,
        agent: Agent = Agent.ANSWERS,
        state: int = libvirt.VIR_DOMAIN_RUNNING,
    ) -> None:
        self.volumes = volume_ids(volumes)
        super().__init__(
            ''.join(
                volume_disk(volume, f'vd{chr(ord("a") + number)}')
                for number, volume in enumerate(self.volumes)
            )
            + documents.CHANNEL,
            agent,
            state,
        )

    def _setUp(self) -> None:
        super()._setUp()
        # The logger of keystoneauth writes all that goes to Cinder.
        logger = logging.getLogger('keystoneauth')
        self.addCleanup(logger.setLevel, logger.level)
        logger.setLevel(logging.INFO)
        self.machine.chains.clear()
        self.instants: list[tuple[bool, bool]] = []
        self.cinder.at_create = lambda _volume: self.instants.append(
            (
                self.machine.frozen,
                self.machine.state == libvirt.VIR_DOMAIN_RUNNING,
            )
        )
        self.set('snapshot', 'volume_timeout', 2)
        self.set('snapshot', 'stall_timeout', 2)

    def backed(self, **fields: Any) -> Instance:
        """The instance of the guest."""
        devices = BlockDevices(
            tuple(
                AttachedVolume(volume, {'boot_index': n, 'snapshot_id': None})
                for n, volume in enumerate(self.volumes)
            ),
            (SWAP,),
        )
        return Instance(documents.NAME, block_devices=devices, **fields)

    def snapshot(
        self,
        connection: Any = None,
        cancellation: Cancellation | None = None,
        instance: Instance | None = None,
        update_task_state: Any = None,
        progress: Progress = silent,
    ) -> Snapshot:
        return super().snapshot(
            connection,
            cancellation,
            instance or self.backed(),
            update_task_state,
            progress,
        )

    def differences(self, before: laws.Before) -> list[str]:
        """The breaches of the laws, in Cinder too: all snapshots, or none."""
        found = super().differences(before)
        image = self.glance.images.get(self.image)
        is_complete = image is not None and image['status'] == 'active'
        expected = sorted(self.volumes) if is_complete else []
        there = sorted(
            snapshot['volume_id']
            for snapshot in self.cinder.snapshots.values()
        )
        if expected != there:
            found.append(f'of volumes {there} there are snapshots in Cinder')
        return found
