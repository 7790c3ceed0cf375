# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import pathlib

import ddt
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.snapshot.capture.quiesce import Quiesce
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.snapshot.disk import disks_of
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.model import Obstacles
from nova_snapshot_driver.snapshot.plan.planner import make_plan
from tests.unit import tables
from tests.unit.host import FakeHost

PAGES = pathlib.Path(__file__).parents[4] / 'doc/source'

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
        self, instance: Instance = INSTANCE, reason: Ground | None = None
    ) -> dict[str, object]:
        guest = self.useFixture(FakeHost()).guest()
        plan = make_plan(
            conf.plan_settings(conf.load([])),
            instance,
            guest.describe(),
            disks_of(guest.describe()),
            guest.power.state(),
            Obstacles(),
        )
        [planned] = plan.disks
        planned = dataclasses.replace(planned, size=2 << 30)
        if reason is not None:
            plan = dataclasses.replace(plan, method_reason=reason)
        quiesce = Quiesce(guest, plan, 10, 10)
        if reason is not None:
            quiesce.reason = reason
        else:
            with quiesce.frozen():
                pass
        return metadata.of_snapshot(instance, plan, planned, quiesce)

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
                'snapshot_method': 'backup',
                'snapshot_method_reason': 'the guest is running',
                'snapshot_quiesced': 'true',
                'snapshot_quiesced_reason': 'by the guest agent',
                'snapshot_disk': 'vda',
                'snapshot_disk_size': '2147483648',
                'snapshot_source_format': 'qcow2',
                'snapshot_quiesced_file_systems': '1',
            },
            self.properties(),
        )

    def test_what_is_not_known_is_left_out(self) -> None:
        properties = self.properties(Instance('web-1'))
        self.assertEqual('bare', properties['container_format'])
        for name in ('owner_id', 'kernel_id', 'ramdisk_id', 'os_type'):
            self.assertNotIn(name, properties)

    def test_every_reason_fits_into_a_column_of_nova(self) -> None:
        longest = max(Words, key=lambda words: len(words.value))
        reason = Ground(longest, cause=Ground(longest))
        properties = self.properties(reason=reason)
        for of in ('method', 'quiesced'):
            text = properties[f'snapshot_{of}_reason']
            self.assertEqual(reason.public, text)
            self.assertIsNone(naming.refusal(str(text)))

    def test_nothing_of_the_host_is_in_a_reason(self) -> None:
        reason = Ground(Words.REFUSED, 'the agent says 🚀\n\x00 /var/lib/x')
        properties = self.properties(reason=reason)
        for of in ('method', 'quiesced'):
            self.assertEqual(
                'it is refused', properties[f'snapshot_{of}_reason']
            )

    def test_not_quiesced(self) -> None:
        properties = self.properties(reason=Ground(Words.NO_AGENT))
        self.assertEqual('false', properties['snapshot_quiesced'])
        self.assertEqual(
            'no agent is running in the guest',
            properties['snapshot_quiesced_reason'],
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


class PagesTest(testtools.TestCase):
    def test_every_property_of_ours_has_a_row(self) -> None:
        page = (PAGES / 'user/image-properties.rst').read_text()
        for name in metadata.OURS:
            self.assertIn(f'   * - ``{name}``\n', page)

    def test_every_property_of_ours_can_be_left_out_by_nova(self) -> None:
        page = (PAGES / 'install/deployment.rst').read_text()
        self.assertIn(f',{",".join(metadata.OURS)}\n', page)


@ddt.ddt
class OptionalTest(testtools.TestCase):
    """Properties that an image can do without."""

    @tables.rows(
        {
            name: (name,)
            for name in (
                *metadata.OURS,
                'snapshot_of_tomorrow',
                'image_location',
                'image_state',
                'image_type',
                'owner_id',
                'user_id',
                'instance_uuid',
                'base_image_ref',
                'com.example.licence',
            )
        }
    )
    def test_optional(self, name: str) -> None:
        self.assertTrue(metadata.is_optional(name))

    @tables.rows(
        {
            name: (name,)
            for name in (
                'disk_format',
                'container_format',
                'visibility',
                'min_disk',
                'min_ram',
                'kernel_id',
                'ramdisk_id',
                'hw_firmware_type',
                'hw_disk_bus',
                'hw_qemu_guest_agent',
                'os_type',
                'os_secure_boot',
                'os_require_quiesce',
                'img_config_drive',
                'trait:HW_CPU_X86_AVX2',
                'cinder_img_volume_type',
                'block_device_mapping',
                'bdm_v2',
                'root_device_name',
                'architecture',
                'vm_mode',
            )
        }
    )
    def test_needed(self, name: str) -> None:
        self.assertFalse(metadata.is_optional(name))
