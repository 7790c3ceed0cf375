# SPDX-License-Identifier: Apache-2.0
"""A host with a nova-compute and one guest, whose disks are volumes."""

from __future__ import annotations

from typing import Any

import fixtures
import libvirt
import nova.conf
from nova import objects
from nova.compute import manager
from nova.compute import task_states
from nova.compute import vm_states
from nova.tests.unit import fake_block_device

from tests.nova.host import ComputeHost
from tests.nova.host import instance
from tests.nova.host import request_context
from tests.unit import documents
from tests.unit.fake_libvirt import Agent
from tests.unit.volumes_host import VolumesHost

CONF = nova.conf.CONF

#: The system metadata of a server, inherited from its volume's image or not.
SYSTEM_METADATA = {
    'image_min_ram': '512',
    'image_min_disk': '2',
    'image_container_format': 'bare',
    'image_disk_format': 'qcow2',
    'image_base_image_ref': '',
    'image_os_type': 'linux',
    'image_hw_qemu_guest_agent': 'yes',
    'image_img_signature': 'of something else',
    'image_bdm_v2': 'True',
    'image_block_device_mapping': '[{"source_type": "snapshot"}]',
    'image_root_device_name': '/dev/sda',
}


def volume_backed(**fields: Any) -> objects.Instance:
    """The instance of the guest."""
    return instance(
        **{
            'image_ref': '',
            'root_device_name': '/dev/vda',
            'host': 'a-host',
            'node': 'a-node',
            'vm_state': vm_states.ACTIVE,
            'task_state': None,
            'launched_at': '2026-11-20T09:00:00Z',
            'system_metadata': SYSTEM_METADATA,
            'locked': False,
            **fields,
        }
    )


class VolumesComputeHost(VolumesHost, ComputeHost):
    """
    :ivar states: the task state at each time that the instance was saved
    """

    def __init__(
        self,
        volumes: int = 3,
        agent: Agent = Agent.ANSWERS,
        state: int = libvirt.VIR_DOMAIN_RUNNING,
    ) -> None:
        super().__init__(volumes, agent, state)

    def _setUp(self) -> None:
        super()._setUp()
        self.instance = volume_backed()
        context = request_context()
        self.bdms = objects.BlockDeviceMappingList(
            objects=[
                self._bdm(context, number, **fields)
                for number, fields in enumerate(self._devices_of_instance())
            ]
        )
        self.useFixture(
            fixtures.MockPatch(
                'nova.objects.BlockDeviceMappingList.get_by_instance_uuid',
                lambda _context, _uuid: self.bdms,
            )
        )
        endpoint = 'http://cinder.example.com:8776/v3/%(project_id)s'
        CONF.set_override('endpoint_template', endpoint, group='cinder')
        self.addCleanup(
            CONF.clear_override, 'endpoint_template', group='cinder'
        )

    def _devices_of_instance(self) -> list[dict[str, Any]]:
        """A device of each kind that upstream knows."""
        swap: dict[str, Any] = {
            'source_type': 'blank',
            'destination_type': 'local',
            'guest_format': 'swap',
            'device_name': '/dev/vdy',
            'delete_on_termination': True,
            'boot_index': -1,
        }
        nothing: dict[str, Any] = {
            'source_type': 'blank',
            'destination_type': 'local',
            'no_device': True,
            'device_name': '/dev/vdz',
        }
        return [
            *(
                {
                    'source_type': 'volume',
                    'destination_type': 'volume',
                    'volume_id': volume,
                    'volume_size': number + 1,
                    'device_name': f'/dev/vd{chr(ord("a") + number)}',
                    'boot_index': number or 0,
                    'disk_bus': 'virtio',
                    'device_type': 'disk',
                    'delete_on_termination': not number,
                    'tag': f'tag-{number}',
                    'volume_type': 'fast',
                    'connection_info': '{}',
                }
                for number, volume in enumerate(self.volumes)
            ),
            swap,
            nothing,
        ]

    @staticmethod
    def _bdm(
        context: Any, number: int, **fields: Any
    ) -> objects.BlockDeviceMapping:
        return fake_block_device.fake_bdm_object(
            context,
            {
                'id': number,
                'instance_uuid': documents.UUID,
                'no_device': False,
                'volume_id': None,
                **fields,
            },
        )

    @manager.delete_image_on_error
    def _take(self, context: Any, image_id: str, instance: Any) -> None:
        # Use the names of the first snapshot.
        self.take(instance, image_id)

    def snapshot_by(self, api: Any, task_state: str | None = None) -> str:
        """Snapshot the instance by a nova-api, to its end.

        :returns: the id of the image
        """
        image = api.snapshot_volume_backed(
            self.request_context,
            self.instance,
            'by nova-api',
            extra_properties={'colour': 'blue'},
        )
        return str(image['id'])


#: The state in which nova-api leaves an instance to its host.
PENDING = task_states.IMAGE_SNAPSHOT_PENDING
