# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import metadata
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.plan import Obstacles
from nova_snapshot_driver.plan import make_plan
from nova_snapshot_driver.quiesce import Quiesce
from tests.unit.host import FakeHost

INSTANCE = Instance(
    'web-1',
    project_id='shop',
    os_type='linux',
    kernel_id='a-kernel',
    ramdisk_id='a-ramdisk',
    container_format='ovf',
)


class OfSnapshotTest(testtools.TestCase):
    def properties(
        self, instance: Instance = INSTANCE, reason: str = ''
    ) -> dict[str, object]:
        guest = self.useFixture(FakeHost()).guest()
        plan = make_plan(
            conf.load([]),
            instance,
            guest.describe(),
            guest.power_state(),
            Obstacles(),
        )
        if reason:
            plan = dataclasses.replace(plan, path_reason=reason)
        quiesce = Quiesce(guest, plan, 10, 10)
        if reason:
            quiesce.reason = reason
        else:
            with quiesce.frozen():
                pass
        return metadata.of_snapshot(instance, plan, quiesce)

    def test_all(self) -> None:
        self.assertEqual(
            {
                'disk_format': 'qcow2',
                'container_format': 'ovf',
                'image_location': 'snapshot',
                'image_state': 'available',
                'owner_id': 'shop',
                'kernel_id': 'a-kernel',
                'ramdisk_id': 'a-ramdisk',
                'os_type': 'linux',
                'snapshot_method': 'mirror',
                'snapshot_method_reason': 'the guest is running',
                'snapshot_quiesced': 'true',
                'snapshot_quiesced_reason': 'by the guest agent',
            },
            self.properties(),
        )

    def test_what_is_not_known_is_left_out(self) -> None:
        properties = self.properties(Instance('web-1'))
        self.assertEqual('bare', properties['container_format'])
        for name in ('owner_id', 'kernel_id', 'ramdisk_id', 'os_type'):
            self.assertNotIn(name, properties)

    def test_every_value_fits_into_a_column_of_nova(self) -> None:
        properties = self.properties(reason='é' * 300)
        for of in ('method', 'quiesced'):
            self.assertEqual('é' * 255, properties[f'snapshot_{of}_reason'])

    def test_not_quiesced(self) -> None:
        properties = self.properties(reason='no agent is running')
        self.assertEqual('false', properties['snapshot_quiesced'])
        self.assertEqual(
            'no agent is running', properties['snapshot_quiesced_reason']
        )


class InheritedTest(testtools.TestCase):
    #: As Glance describes an image, without what stands in fields of ours.
    BASE = {  # noqa: RUF012
        'architecture': 'x86_64',
        'hw_disk_bus': 'scsi',
        'os_distro': 'debian',
        'os_admin_user': 'debian',
    }

    def inherited(self, *non_inheritable: str, **more: object) -> object:
        return metadata.inherited({**self.BASE, **more}, non_inheritable)

    def test_properties(self) -> None:
        self.assertEqual(self.BASE, self.inherited())

    def test_option_of_nova(self) -> None:
        self.assertEqual(
            self.BASE,
            self.inherited(
                'cache_in_nova',
                'bittorrent',
                cache_in_nova='true',
                bittorrent='true',
            ),
        )

    def test_what_belongs_to_one_image(self) -> None:
        self.assertEqual(
            self.BASE,
            self.inherited(
                cinder_encryption_key_id='a-key',
                cinder_encryption_key_deletion_policy='on_image_deletion',
                img_signature='signed',
                img_signature_hash_method='SHA-256',
                img_signature_key_type='RSA-PSS',
                img_signature_certificate_uuid='a-certificate',
            ),
        )

    def test_what_glance_keeps_for_itself(self) -> None:
        self.assertEqual(
            self.BASE,
            self.inherited(
                os_glance_import_task='a-task', os_glance_failed_import=''
            ),
        )

    def test_fields_of_the_image_itself(self) -> None:
        self.assertEqual(
            self.BASE,
            self.inherited(
                checksum='c0ffee',
                container_format='bare',
                created_at='2026-11-20T09:00:00Z',
                direct_url='rbd://a/b/c/snap',
                disk_format='qcow2',
                file='/v2/images/x/file',
                locations=[],
                min_disk=5,
                min_ram=1,
                os_hidden=True,
                owner='somebody',
                protected=True,
                schema='/v2/schemas/image',
                stores='ceph',
                tags=['gold'],
                updated_at='2026-11-20T09:00:00Z',
                virtual_size=1,
                visibility='public',
            ),
        )
