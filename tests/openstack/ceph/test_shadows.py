# SPDX-License-Identifier: Apache-2.0
"""Snapshots into a volume of Cinder, in a real cloud."""

from __future__ import annotations

import json
import subprocess
from typing import Any
from typing import ClassVar

from openstack.compute.v2.server import Server
from openstack.image.v2.image import Image

from lab.bounded import wait_until
from lab.cloud.configuration import Overrides
from lab.cloud.content import LUKS
from nova_snapshot_driver.snapshot.destination.standing import TREE
from nova_snapshot_driver.takings.cinder_snapshots import MARK
from tests.openstack.ceph.shadows import TO_VOLUME
from tests.openstack.ceph.shadows import VOLUME_TIMEOUT
from tests.openstack.ceph.shadows import ShadowCase

MIB = 1 << 20

COMMAND_TIMEOUT = 120

#: Has the guest write some MiB to its disk.
WRITE = """\
rm -f /data/scratch
dd if=/dev/urandom of=/data/scratch bs=1M count={} conv=fsync
"""


class IncrementsTest(ShadowCase):
    """A server whose metadata say where its snapshots go."""

    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.boot(metadata=TO_VOLUME)
        cls.addClassCleanup(cls.delete, cls.server)

    def take(self, **metadata: Any) -> Image:
        """Take a snapshot, and see that the laws hold."""
        before = self.before(self.server)
        image = self.snapshot(self.server, **metadata)
        self.assert_as_before(before)
        self.assertEqual([], self.leftovers(self.server))
        return image

    def way(self, image: Image) -> str:
        way: str = image.properties['snapshot_way']
        return way

    def volume(self) -> Any:
        (volume,) = self.shadows_of(self.server)
        return volume

    def test_writing(self) -> None:
        """Each one is consistent, and builds on the one before."""
        self.take()
        for _ in range(3):
            earliest = self.wait_for_records(self.server)
            self.run_in_guest(self.server, WRITE.format(4))
            image = self.take()
            self.assertEqual('bitmap', self.way(image))
            self.prove_snapshot(image, earliest)
            sent = int(image.properties['snapshot_sent_bytes'])
            self.assertGreaterEqual(sent, 4 * MIB)
            self.assertLess(sent, 64 * MIB)

    def test_exact(self) -> None:
        """The disk of a paused guest is in its snapshot, bit for bit."""
        self.take()
        for _ in range(2):
            self.run_in_guest(self.server, WRITE.format(2))
            with self.in_state(self.server, 'PAUSED'):
                image = self.take()
                self.assertEqual('bitmap', self.way(image))
                self.assert_same_as_disk(self.server, image)

    def test_nothing_has_changed(self) -> None:
        with self.in_state(self.server, 'PAUSED'):
            self.take()
            image = self.take()
            self.assertEqual('0', image.properties['snapshot_sent_bytes'])
            self.assert_same_as_disk(self.server, image)

    def test_stopped(self) -> None:
        """The disk is read as a whole, and what has changed is written."""
        self.take()
        self.run_in_guest(self.server, WRITE.format(2))
        with self.in_state(self.server, 'SHUTOFF'):
            image = self.take()
            self.assertEqual('compare', self.way(image))
            self.assert_same_as_disk(self.server, image)
        self.wait_for_agent(self.server)

    def test_verified(self) -> None:
        """Snapshots are proven, and the next one is an increment as ever."""
        images = [self.take(), self.take()]
        shadow = self.volume()
        snapshot = self.mapping(images[0])['snapshot_id']
        findings = self.verify(snapshot, images[1].id)
        self.assertEqual([True, True], [each['intact'] for each in findings])
        self.assertEqual(
            [image.properties['snapshot_tree_sha256'] for image in images],
            [each['found'] for each in findings],
        )
        self.assertEqual(shadow.updated_at, self.volume().updated_at)
        self.assertEqual('bitmap', self.way(self.take()))
        self.assertNotIn('is reverted to that', self.log.text)
        # A snapshot in Ceph can't be damaged; its records can.
        other = 'f' * 64
        self.cinder.set_snapshot_metadata(snapshot, **{TREE: other})
        self.demo.image.update_image(images[0].id, snapshot_tree_sha256=other)
        damaged, intact = self.verify(images[0].id, images[1].id)
        self.assertTrue(intact['intact'])
        self.assertFalse(damaged['intact'])
        self.assertEqual(findings[0]['found'], damaged['found'])
        self.assertIsNone(damaged['error'])

    def verify(self, *snapshots: str) -> list[dict[str, Any]]:
        result = subprocess.run(
            self.command('verify', *snapshots),
            env=self.environment_of('demo'),
            stdout=subprocess.PIPE,
            timeout=COMMAND_TIMEOUT,
        )
        findings: list[dict[str, Any]] = json.loads(result.stdout)
        intact = all(finding['intact'] for finding in findings)
        self.assertEqual(0 if intact else 1, result.returncode)
        return findings

    def test_killed_guest(self) -> None:
        """QEMU takes its bitmap with it: the next one compares."""
        self.take()
        with self.domain(self.server) as domain:
            self.cloud.libvirtd.kill_guest(domain.name())
        self.admin.compute.reboot_server(self.server.id, 'HARD')
        self.wait_for_status(self.server, 'ACTIVE')
        self.wait_for_agent(self.server)
        earliest = self.wait_for_records(self.server)
        image = self.take()
        self.assertEqual('compare', self.way(image))
        self.prove_snapshot(image, earliest)
        self.assertEqual('bitmap', self.way(self.take()))

    def test_reboots(self) -> None:
        """A bitmap outlives a guest that ends by itself, or by Nova."""
        self.take()
        for kind in ('SOFT', 'HARD'):
            self.demo.compute.reboot_server(self.server.id, kind)
            self.wait_for_status(self.server, 'ACTIVE')
            self.wait_for_agent(self.server)
            earliest = self.wait_for_records(self.server)
            image = self.take()
            self.assertEqual('bitmap', self.way(image), kind)
            self.prove_snapshot(image, earliest)

    def test_stranger_writes(self) -> None:
        """The writes of somebody in between are taken back."""
        self.take()
        volume = self.volume()
        attached = self.cinder.post(
            '/attachments',
            json={
                'attachment': {
                    'volume_uuid': volume.id,
                    'connector': {'host': 'elsewhere'},
                }
            },
            microversion='3.54',
        ).json()['attachment']
        self.cloud.ceph.rbd(
            *('bench', '--io-type', 'write', '--io-size', '4M'),
            *('--io-total', '64M', f'volumes/volume-{volume.id}'),
        )
        self.cinder.delete(
            f'/attachments/{attached["id"]}', microversion='3.54'
        )
        with self.in_state(self.server, 'PAUSED'):
            image = self.take()
            self.assertEqual('bitmap', self.way(image))
            self.assert_same_as_disk(self.server, image)
        self.assertIn('is reverted to that', self.log.text)

    def test_extended(self) -> None:
        """Cinder does not revert a volume that has grown."""
        self.take()
        volume = self.volume()
        self.cinder.extend_volume(volume.id, volume.size + 1)
        self.wait_for_volume(volume.id)
        with self.in_state(self.server, 'PAUSED'):
            image = self.take()
            self.assertEqual('compare', self.way(image))
            self.assert_same_as_disk(self.server, image)
        self.assertEqual(volume.size + 1, self.mapping(image)['volume_size'])

    def wait_for_volume(self, volume: str) -> None:
        self.cinder.wait_for_status(
            self.cinder.get_volume(volume),
            'available',
            ['error'],
            0.3,
            VOLUME_TIMEOUT,
        )

    def test_image_beside(self) -> None:
        """A request goes before the metadata of the server."""
        self.take()
        earliest = self.records(self.server)
        image = self.take(snapshot_target='image')
        self.assertNotIn('snapshot_target', image.properties)
        self.assertNotIn('block_device_mapping', image.properties)
        self.assertGreater(image.size, MIB)
        super().examine_file(super(ShadowCase, self).download(image), earliest)
        self.assertEqual('bitmap', self.way(self.take()))

    def test_no_such_target(self) -> None:
        image = self.ask_for_snapshot(self.server, snapshot_target='tape')
        self.wait_until_gone(image)
        self.assertIn('and not to "tape"', self.fault(self.server))

    def test_rotation(self) -> None:
        """A backup that Nova has deleted leaves no snapshot behind."""
        images = []
        for _ in range(3):
            image = self.demo.compute.backup_server(
                self.server.id, 'nightly', 'nightly', 1
            )
            self.addCleanup(self.admin.image.delete_image, image.id)
            self.wait_for_no_task(self.server.id)
            images.append(image)
        self.wait_until_gone(images[0])
        self.wait_until_gone(images[1])

        def marked() -> set[str]:
            return {
                each.metadata.get(MARK)
                for each in self.snapshots_of(self.volume())
            } & {image.id for image in images}

        # The last one was built on the one before, which is still there.
        wait_until(
            lambda: images[0].id not in marked(),
            'Cinder to delete the snapshot',
            VOLUME_TIMEOUT,
            0.5,
        )
        self.assertIn(images[2].id, marked())


class BootTest(ShadowCase):
    def test_new_server(self) -> None:
        """Nova builds a server from it, as from any image of volumes."""
        server = self.new_server()
        earliest = self.records(server)
        image = self.snapshot(server, **TO_VOLUME)
        self.assertNotIn('snapshot_target', image.properties)
        self.assertNotIn('snapshot_parent', image.properties)
        self.prove_snapshot(image, earliest)
        new = self.new_server(image)
        self.assertGreaterEqual(self.records(new), earliest)
        attached = list(self.admin.compute.volume_attachments(new))
        self.assertEqual(1, len(attached))
        self.delete(new)

    def test_deleted_server(self) -> None:
        """A server with bitmaps is deleted as any other."""
        server = self.new_server(metadata=TO_VOLUME)
        image = self.snapshot(server)
        super(ShadowCase, self).delete(server)
        self.prove_snapshot(image, 1)

    def test_shelved(self) -> None:
        """Nova unshelves from the data of an image alone."""
        server = self.new_server(metadata=TO_VOLUME)
        self.snapshot(server)
        earliest = self.records(server)
        self.demo.compute.shelve_server(server.id)
        self.wait_for_status(server, 'SHELVED_OFFLOADED')
        self.demo.compute.unshelve_server(server.id)
        self.wait_for_status(server, 'ACTIVE')
        self.wait_for_records(server)
        self.assertGreaterEqual(self.records(server), earliest)
        image = self.snapshot(server)
        self.assertIn(image.properties['snapshot_way'], ('compare', 'bitmap'))
        self.prove_snapshot(image, earliest)


class QuotaTest(ShadowCase):
    """The target is left to the driver, or is not."""

    nova_compute: ClassVar[Overrides] = {('snapshot', 'target'): 'auto'}

    def setUp(self) -> None:
        super().setUp()
        self.server = self.new_server()
        admin: Any = self.admin.block_storage
        project = self.demo.current_project_id
        quota = admin.get_quota_set(project, usage=True)
        used = quota.usage['gigabytes']
        admin.update_quota_set(project, gigabytes=used)
        self.addCleanup(
            admin.update_quota_set, project, gigabytes=quota.gigabytes
        )

    def test_auto(self) -> None:
        earliest = self.records(self.server)
        image = self.snapshot(self.server)
        self.assertGreater(image.size, MIB)
        self.examine_file(super(ShadowCase, self).download(image), earliest)
        self.assertIn('goes to an image instead', self.log.text)
        self.assertEqual([], self.shadows_of(self.server))

    def test_volume(self) -> None:
        image = self.ask_for_snapshot(self.server, **TO_VOLUME)
        self.wait_until_gone(image)
        self.wait_for_no_task(self.server.id)
        self.assertIn('cinder-over-limit', self.fault(self.server))
        self.assertEqual([], self.shadows_of(self.server))


class EncryptedTest(ShadowCase):
    """A volume of a type that Cinder encrypts."""

    nova_compute: ClassVar[Overrides] = {
        ('snapshot', 'target'): 'volume',
        ('snapshot', 'volume_type'): LUKS,
    }

    def test_boots(self) -> None:
        server = self.new_server()
        self.snapshot(server)
        earliest = self.wait_for_records(server)
        image = self.snapshot(server)
        self.assertEqual('bitmap', image.properties['snapshot_way'])
        (volume,) = self.shadows_of(server)
        self.assertTrue(volume.is_encrypted)
        begin = self.download(image).path.open('rb').read(6)
        self.assertEqual(b'LUKS\xba\xbe', begin)
        new = self.new_server(image)
        self.assertGreaterEqual(self.records(new), earliest)
        self.delete(new)
