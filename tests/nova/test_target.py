# SPDX-License-Identifier: Apache-2.0
"""Where a snapshot goes, by what a user, an image, a flavor and Nova say."""

from __future__ import annotations

from typing import Any

import ddt
import fixtures
import nova.conf
from nova import objects as nova_objects
from nova.compute import task_states
from nova.virt.libvirt import driver as libvirt_driver

from nova_snapshot_driver import exception
from nova_snapshot_driver.nova import objects
from nova_snapshot_driver.nova.environment import ComputeEnvironment
from nova_snapshot_driver.nova.errors import SnapshotRefused
from nova_snapshot_driver.nova.target import target_of
from nova_snapshot_driver.snapshot import retention
from nova_snapshot_driver.snapshot.plan.instance import Target
from nova_snapshot_driver.state.ledger import Ledger
from tests.nova.host import AGENT
from tests.nova.host import ComputeCase
from tests.nova.host import instance
from tests.nova.host import request_context
from tests.unit import documents
from tests.unit import fake_cinder
from tests.unit import tables

CONF = nova.conf.CONF


def asked(**places: str) -> dict[str, Any]:
    """The fields of an instance of which places name a target."""
    fields: dict[str, Any] = {}
    if 'server' in places:
        fields['metadata'] = {'snapshot_target': places['server']}
    if 'image' in places:
        fields['system_metadata'] = {
            **AGENT,
            'image_snapshot_target': places['image'],
        }
    if 'flavor' in places:
        fields['flavor'] = nova_objects.Flavor(
            extra_specs={'snapshot:target': places['flavor']}
        )
    return fields


@ddt.ddt
class TargetTest(ComputeCase):
    def target(self, of_request: str | None = None, **fields: Any) -> Target:
        record = self.host.glance.images[self.host.image]
        if of_request is not None:
            record['snapshot_target'] = of_request
        return target_of(
            self.host.context, instance(**fields), self.host.image
        )

    def test_default(self) -> None:
        self.assertIs(Target.IMAGE, self.target())

    @tables.rows(
        {
            'request': ('volume', 'image', 'image', 'image', 'image'),
            'server': (None, 'volume', 'image', 'image', 'image'),
            'image': (None, None, 'volume', 'image', 'image'),
            'flavor': (None, None, None, 'volume', 'image'),
            'option': (None, None, None, None, 'volume'),
        }
    )
    def test_order(
        self,
        of_request: str | None,
        server: str | None,
        image: str | None,
        flavor: str | None,
        option: str,
    ) -> None:
        self.flags(target=option, group='snapshot')
        places = {'server': server, 'image': image, 'flavor': flavor}
        fields = asked(**{n: v for n, v in places.items() if v is not None})
        self.assertIs(Target.VOLUME, self.target(of_request, **fields))

    def test_inherited_property_is_no_request(self) -> None:
        """nova-api writes what the image of the server has."""
        fields = asked(server='auto', image='volume')
        self.assertIs(Target.AUTO, self.target('volume', **fields))

    def test_request_is_taken_off(self) -> None:
        self.target('volume')
        record = self.host.glance.images[self.host.image]
        self.assertNotIn('snapshot_target', record)

    @tables.rows(
        {
            'backup': (task_states.IMAGE_BACKUP, Target.VOLUME),
            'shelving': (task_states.SHELVING, Target.IMAGE),
            'resize': (task_states.RESIZE_MIGRATING, Target.IMAGE),
            'none': (None, Target.IMAGE),
        }
    )
    def test_task(self, task_state: str | None, target: Target) -> None:
        self.flags(target='volume', group='snapshot')
        self.assertIs(target, self.target(task_state=task_state))

    @tables.rows(
        {
            'request': ('tape', {}, 'the request'),
            'server': (None, {'server': ''}, 'the metadata of the server'),
            'image': (None, {'image': 'IMAGE'}, 'the image of the server'),
            'flavor': (None, {'flavor': 'none'}, 'the flavor'),
        }
    )
    def test_invalid(
        self, of_request: str | None, places: dict[str, str], where: str
    ) -> None:
        error = self.assertRaises(
            exception.TargetInvalid,
            self.target,
            of_request,
            **asked(**places),
        )
        self.assertIn(where, str(error))


class ShadowCase(ComputeCase):
    def setUp(self) -> None:
        super().setUp()
        self.host.set('cinder', 'endpoint_template', fake_cinder.ENDPOINT)
        self.host.instance.metadata = {'snapshot_target': 'volume'}

    def take(self) -> None:
        self.host.take()


class SnapshotTest(ShadowCase):
    def test_volume(self) -> None:
        """The whole way, from Nova's call to an image that maps a volume."""
        self.host.glance.images[self.host.image]['owner'] = documents.PROJECT
        self.take()
        record = self.host.glance.images[self.host.image]
        self.assertEqual(('active', 0), (record['status'], record['size']))
        self.assertEqual('full', record['snapshot_way'])
        (volume,) = self.host.cinder.volumes.values()
        self.assertEqual('web-1: snapshots of vda', volume['name'])
        self.assertIsNone(volume['availability_zone'])

    def test_zone(self) -> None:
        self.flags(cross_az_attach=False, group='cinder')
        self.take()
        (volume,) = self.host.cinder.volumes.values()
        self.assertEqual('zone-1', volume['availability_zone'])

    def test_invalid(self) -> None:
        self.host.instance.metadata = {'snapshot_target': 'tape'}
        error = self.assertRaises(SnapshotRefused, self.take)
        self.assertIn('and not to "tape"', str(error))


class PassphraseTest(ComputeCase):
    def setUp(self) -> None:
        super().setUp()
        self.flags(
            backend='nova.keymgr.conf_key_mgr.ConfKeyManager',
            fixed_key='00' * 32,
            group='key_manager',
        )
        self.environment = ComputeEnvironment(context=request_context())

    def test_key(self) -> None:
        """The passphrase is the key in hexadecimal, as for Nova itself."""
        found = self.environment.volume_passphrase(
            'd', '0' * 8 + '-0000' * 3 + '-' + '0' * 12
        )
        self.assertEqual(b'00' * 32, found)

    def test_no_key(self) -> None:
        error = self.assertRaises(
            exception.VolumeRefused,
            self.environment.volume_passphrase,
            'd',
            fake_cinder.KEY,
        )
        self.assertIn('the key manager does not give', str(error))


class RetentionTest(ShadowCase):
    """The shadow of a server that is deleted."""

    def setUp(self) -> None:
        super().setUp()
        self.take()
        self.image = self.host.image
        self.ledger = Ledger(self.host.directories.state)
        self.useFixture(
            fixtures.MockPatchObject(
                libvirt_driver.LibvirtDriver, 'manage_image_cache'
            )
        )
        self.useFixture(
            fixtures.MockPatchObject(
                objects, 'ServiceUser', lambda: self.host.context
            )
        )
        self.lives = False
        self.useFixture(
            fixtures.MockPatchObject(
                objects, 'is_there', lambda *_: self.lives
            )
        )

    def sweep(self) -> None:
        self.host.compute.manage_image_cache(request_context(), [])

    def destroy(self) -> None:
        self.host.compute.destroy(request_context(), self.host.instance, None)

    def test_image_needs_it(self) -> None:
        self.destroy()
        self.sweep()
        self.assertEqual(1, len(self.host.cinder.volumes))
        self.assertEqual([documents.UUID], self.ledger.buried())

    def test_last_image_is_gone(self) -> None:
        self.destroy()
        del self.host.glance.images[self.image]
        for _ in range(4):
            self.sweep()
        self.assertEqual({}, self.host.cinder.volumes)
        self.assertEqual([], self.ledger.buried())

    def test_stranger_has_a_snapshot(self) -> None:
        """Nothing of a stranger is deleted."""
        (volume,) = self.host.cinder.volumes
        self.host.cinder._create(
            {
                'volume_id': volume,
                'name': 'mine',
                'force': True,
                'description': None,
                'metadata': {},
            }
        )
        self.destroy()
        del self.host.glance.images[self.image]
        for _ in range(4):
            self.sweep()
        (left,) = self.host.cinder.snapshots.values()
        self.assertEqual('mine', left['name'])

    def test_server_lives_elsewhere(self) -> None:
        """The disk was migrated, or built anew."""
        self.destroy()
        del self.host.glance.images[self.image]
        self.lives = True
        self.sweep()
        self.assertEqual(1, len(self.host.cinder.snapshots))
        self.assertEqual([], self.ledger.buried())

    def test_service_user_sees_little(self) -> None:
        self.destroy()
        del self.host.glance.images[self.image]
        self.host.context.hidden = {None}
        self.sweep()
        self.assertEqual(1, len(self.host.cinder.snapshots))
        self.assertIn('has no role admin', self.host.log.output)

    def test_disks_stay(self) -> None:
        self.host.compute.destroy(
            request_context(), self.host.instance, None, destroy_disks=False
        )
        self.assertEqual([], self.ledger.buried())

    def test_cinder_is_away(self) -> None:
        self.destroy()
        for number in range(1, 9):
            self.host.cinder.troubles[f'volumes_{number}'] = (
                fake_cinder.unavailable
            )
        self.sweep()
        self.assertIn('of deleted servers: ', self.host.log.output)
        self.assertEqual([documents.UUID], self.ledger.buried())

    def test_server_without_one(self) -> None:
        retention.disk_is_deleted(self.host.settings.destination, 'another')
        self.assertEqual([], self.ledger.buried())
