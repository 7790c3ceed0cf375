# SPDX-License-Identifier: Apache-2.0
"""nova-compute snapshots a server whose root disk is a volume."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import ddt
from nova import exception as nova_exception
from nova.compute import task_states
from nova.virt.libvirt import driver as libvirt_driver

from nova_snapshot_driver.clients.access import CinderAccess
from nova_snapshot_driver.cmd.shared import volume_backed
from nova_snapshot_driver.nova import objects
from nova_snapshot_driver.nova import presence
from nova_snapshot_driver.nova.errors import SnapshotFailed
from tests.nova.host import GLOBAL_REQUEST_ID
from tests.nova.host import REQUIRES_QUIESCE
from tests.nova.host import USER_TOKEN
from tests.nova.host import ComputeCase
from tests.nova.volumes_host import VolumesComputeHost
from tests.nova.volumes_host import volume_backed as instance_with
from tests.unit import documents
from tests.unit import fake_cinder
from tests.unit import tables
from tests.unit.fake_libvirt import Agent


class VolumesCase(ComputeCase):
    host: VolumesComputeHost

    def compute_host(self) -> VolumesComputeHost:
        host: VolumesComputeHost = self.useFixture(VolumesComputeHost())
        return host


class SnapshotTest(VolumesCase):
    def test_snapshot(self) -> None:
        self.host.take()
        image = self.host.glance.images[self.host.image]
        self.assertEqual('active', image['status'])
        self.assertEqual('true', image['snapshot_quiesced'])
        self.assert_given_back()
        self.assertEqual(task_states.IMAGE_UPLOADING, self.host.task_state.now)

    def test_mapping(self) -> None:
        """Volumes come last, and devices without a name are left out."""
        self.host.take()
        mapping = json.loads(
            self.host.glance.images[self.host.image]['block_device_mapping']
        )
        self.assertEqual(
            [('blank', '/dev/vdy')]
            + [('snapshot', f'/dev/vd{letter}') for letter in 'abc'],
            [(each['source_type'], each['device_name']) for each in mapping],
        )

    def test_mapping_is_in_the_order_of_the_devices(self) -> None:
        """Nova names those of a new server in the order of the mapping.

        Upstream has them in that of the database, which may be any: the disks
        of the new server change places.
        """
        bdms = self.host.bdms.objects
        bdms[2].device_name = '/dev/vdaa'
        bdms.reverse()
        devices = objects.block_devices_of(
            self.host.request_context, self.host.instance
        )
        assert devices is not None
        self.assertEqual(
            ['/dev/vda', '/dev/vdb', '/dev/vdaa'],
            [volume.mapping['device_name'] for volume in devices.volumes],
        )

    def test_keys_of_the_command_line_are_those_of_nova(self) -> None:
        devices = objects.block_devices_of(
            self.host.request_context, self.host.instance
        )
        assert devices is not None
        self.assertEqual(
            set(devices.volumes[0].mapping), set(volume_backed._FIELDS)
        )

    def test_root_disk_of_a_file(self) -> None:
        self.host.bdms.objects = []
        self.host.instance.image_ref = documents.BASE_IMAGE
        self.assertIsNone(
            objects.block_devices_of(
                self.host.request_context, self.host.instance
            )
        )

    def test_never_goes_to_upstream(self) -> None:
        """Upstream would copy the volume, and make an image of that."""
        assert self.host.machine.config is not None
        self.host.machine.config = self.host.machine.config.replace(
            "type='kvm'", "type='lxc'", 1
        )
        self.host.machine.stop()
        self.assertRaises(SnapshotFailed, self.host.take_and_clean_up)
        self.assertEqual([], self.host.upstream_snapshot.calls)
        self.assert_image_is_gone()

    def test_quiesce_is_required(self) -> None:
        self.host.machine.freeze_fails = True
        self.assertRaises(
            nova_exception.InstanceQuiesceFailed,
            self.host.take,
            instance_with(system_metadata=REQUIRES_QUIESCE),
        )
        self.assert_given_back()
        self.assert_image_is_gone()

    def test_cinder_fails(self) -> None:
        self.host.cinder.troubles['create_2'] = fake_cinder.internal_error
        error = self.assertRaises(SnapshotFailed, self.host.take)
        self.assertIn('(cinder-unavailable)', str(error))
        self.assert_given_back()
        self.assert_image_is_gone()

    def test_server_is_deleted_meanwhile(self) -> None:
        """The task state can't be set; nova-compute is quiet about that."""
        self.host.task_state.troubles[2] = (
            nova_exception.UnexpectedDeletingTaskStateError(
                instance_uuid=documents.UUID, expected={}, actual={}
            )
        )
        self.assertRaises(
            nova_exception.UnexpectedDeletingTaskStateError, self.host.take
        )
        self.assert_given_back()

    def test_server_is_destroyed_meanwhile(self) -> None:
        self.host.machine.agent = Agent.ABSENT
        self.host.cinder.polls = 1_000_000
        self.host.set('snapshot', 'stall_timeout', 1000)
        reached = mock.Mock()

        def look(request: str) -> None:
            if request.startswith('poll_5') and not reached.called:
                reached()
            if request.startswith('list'):
                self.host.cinder.polls = 1

        self.host.cinder.before = look
        snapshot = self.host.begin()
        while not reached.called:
            assert not snapshot.done(), snapshot.exception()
        self.host.compute.destroy(
            self.host.request_context, self.host.instance, None
        )
        self.assertIsInstance(
            snapshot.exception(), nova_exception.InstanceNotFound
        )
        self.assert_given_back()
        self.assertEqual(1, len(self.host.upstream_destroy.calls))


class LeftBehindTest(VolumesCase):
    def test_cause_is_what_nova_hears_of(self) -> None:
        self.host.set('snapshot', 'volume_timeout', 1)
        self.host.cinder.troubles = {
            f'list_{n}': fake_cinder.unavailable for n in range(100_000)
        }
        self.host.task_state.troubles[2] = nova_exception.InstanceNotFound(
            instance_id=documents.UUID
        )
        self.assertRaises(nova_exception.InstanceNotFound, self.host.take)
        self.assertIn('volume snapshot delete', self.host.log.output)

    def test_next_snapshot_deletes_them(self) -> None:
        self.host.set('snapshot', 'volume_timeout', 1)
        self.host.cinder.troubles = {
            'create_3': fake_cinder.internal_error
        } | {f'list_{n}': fake_cinder.unavailable for n in range(100_000)}
        self.assertRaises(SnapshotFailed, self.host.take)
        self.host.cinder.troubles = {}
        first = self.host.image
        self.host.image = self.host.glance.add(name='the next')
        self.host.task_state.now = task_states.IMAGE_SNAPSHOT
        self.host.take()
        self.assertNotIn(first, self.host.glance.images)
        self.assert_given_back()


@ddt.ddt
class AccessTest(VolumesCase):
    def test_user(self) -> None:
        self.assertEqual(
            CinderAccess(
                fake_cinder.ENDPOINT,
                token=USER_TOKEN,
                global_request_id=GLOBAL_REQUEST_ID,
            ),
            objects.Requester(self.host.request_context).cinder_access(),
        )

    @tables.rows({'seconds': ('timeout', 7), 'not_set': ('timeout', None)})
    def test_timeout(self, option: str, value: int | None) -> None:
        self.flags(**{option: value}, group='cinder')
        access = objects.Requester(self.host.request_context).cinder_access()
        self.assertEqual(value or 60, access.timeout)


class ReportTest(VolumesCase):
    def resources(self) -> dict[str, Any]:
        with mock.patch.object(
            libvirt_driver.LibvirtDriver,
            'get_available_resource',
            new=mock.Mock(
                return_value={'vcpus': 2, 'stats': {'uptime': 'long'}}
            ),
        ):
            resources: dict[str, Any] = (
                self.host.compute.get_available_resource('a-node')
            )
            return resources

    def test_host_says_that_it_has_the_driver(self) -> None:
        self.assertEqual(
            {
                'vcpus': 2,
                'stats': {'uptime': 'long', presence.STAT: presence.VERSION},
            },
            self.resources(),
        )

    def test_host_without_qemu_has_it_not(self) -> None:
        self.flags(virt_type='lxc', group='libvirt')
        self.assertEqual({'uptime': 'long'}, self.resources()['stats'])


class AssistedTest(VolumesCase):
    """Cinder has Nova snapshot a volume that is a file."""

    def instance_of_upstream(self) -> Any:
        create = mock.Mock()
        with mock.patch.object(
            libvirt_driver.LibvirtDriver, 'volume_snapshot_create', new=create
        ):
            self.host.compute.volume_snapshot_create(
                self.host.request_context,
                instance_with(system_metadata=REQUIRES_QUIESCE),
                'a-volume',
                {},
            )
        return create.call_args[0][1]

    def test_nobody_else_holds_it_still(self) -> None:
        image = self.instance_of_upstream().image_meta
        self.assertTrue(image.properties.os_require_quiesce)

    def test_stands_still_already(self) -> None:
        """The agent would refuse to freeze what it has frozen."""
        with self.host.compute._snapshots.of(documents.UUID):
            image = self.instance_of_upstream().image_meta
        for name in ('os_require_quiesce', 'hw_qemu_guest_agent'):
            self.assertIsNone(image.properties.get(name))
