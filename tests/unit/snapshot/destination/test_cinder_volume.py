# SPDX-License-Identifier: Apache-2.0
"""Snapshots into a volume in Cinder, as far as Cinder is concerned."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
from typing import Any

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.cinder import VolumeSnapshot
from nova_snapshot_driver.common.view import Volume
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.snapshot.destination import standing
from nova_snapshot_driver.snapshot.destination.base import IncrementProof
from nova_snapshot_driver.snapshot.destination.shadow import DISK
from nova_snapshot_driver.snapshot.plan.instance import Target
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.takings import cinder_snapshots
from nova_snapshot_driver.takings import shadow_volume
from nova_snapshot_driver.transfer.jobs.job import Verdict
from tests.unit import documents
from tests.unit import fake_cinder
from tests.unit import tables
from tests.unit.host import DEVICES
from tests.unit.hypervisor.test_domain import LUKS_IN_SOURCE as LUKS
from tests.unit.shadow_host import INSTANCE
from tests.unit.shadow_host import ShadowHost

GIB = 1 << 30

RAW = documents.file_disk('/disk', image_format='raw')


def increment_of(snapshot: Snapshot) -> IncrementProof:
    [disk] = snapshot.disks
    assert disk.increment is not None
    return disk.increment


class ShadowCase(testtools.TestCase):
    DEVICES = DEVICES

    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(ShadowHost(self.DEVICES))
        self.cinder = self.host.cinder
        self.data_plane = self.host.data_plane

    def take(self, **fields: Any) -> IncrementProof:
        """Take a snapshot, and see that the laws hold."""
        before = self.host.before()
        snapshot = self.host.take(**fields)
        self.assertEqual([], self.host.differences(before))
        bitmap = self.host.newest_bitmap()
        self.assertEqual([bitmap] if bitmap else [], self.host.bitmaps())
        return increment_of(snapshot)

    def fails(
        self, error: type[exception.SnapshotError], **fields: Any
    ) -> exception.SnapshotError:
        before = self.host.before()
        raised: exception.SnapshotError = self.assertRaises(
            error, self.host.take, **fields
        )
        self.assertEqual([], self.host.differences(before))
        self.assertNotIn(self.host.image, self.host.glance.images)
        return raised

    @property
    def record(self) -> dict[str, Any]:
        """The image in Glance."""
        return self.host.glance.images[self.host.image]

    def mapping(self) -> dict[str, Any]:
        (device,) = json.loads(self.record['block_device_mapping'])
        found: dict[str, Any] = device
        return found

    def snapshot_of(self, image: str) -> dict[str, Any]:
        (found,) = (
            each
            for each in self.cinder.snapshots.values()
            if each['metadata'][cinder_snapshots.MARK] == image
        )
        return found


class FirstTest(ShadowCase):
    def test_volume(self) -> None:
        taken = self.take(zone='zone-1')
        self.assertEqual(
            ('full', 'it is the first one', None),
            (taken.way, taken.reason, taken.parent),
        )
        volume = self.host.volume
        self.assertEqual(
            (2, 'zone-1', None, 'true', 'available'),
            tuple(
                volume[name]
                for name in (
                    *('size', 'availability_zone', 'volume_type'),
                    *('bootable', 'status'),
                )
            ),
        )
        self.assertEqual('web-1: snapshots of vda', volume['name'])
        self.assertEqual(
            (documents.UUID, 'vda', self.host.image),
            tuple(
                volume['metadata'][name]
                for name in (
                    *(shadow_volume.OF, DISK),
                    shadow_volume.WRITER,
                )
            ),
        )

    def test_image(self) -> None:
        taken = self.take()
        snapshot = self.snapshot_of(self.host.image)
        self.assertEqual(
            ('active', 0), (self.record['status'], self.record['size'])
        )
        self.assertEqual(
            {
                'source_type': 'snapshot',
                'destination_type': 'volume',
                'snapshot_id': snapshot['id'],
                'volume_size': 2,
                'boot_index': 0,
                'device_name': '/dev/vda',
                'device_type': 'disk',
                'disk_bus': 'virtio',
                'delete_on_termination': True,
            },
            self.mapping(),
        )
        self.assertEqual(
            {
                'bdm_v2': 'True',
                'root_device_name': '/dev/vda',
                'disk_format': 'raw',
                'snapshot_way': 'full',
                'snapshot_way_reason': 'it is the first one',
                'snapshot_changed_bytes': '65536',
                'snapshot_sent_bytes': str(taken.written),
                'snapshot_tree_sha256': taken.tree,
            },
            {
                name: self.record.get(name)
                for name in (
                    *('bdm_v2', 'root_device_name', 'disk_format'),
                    *('snapshot_way', 'snapshot_way_reason'),
                    *('snapshot_changed_bytes', 'snapshot_sent_bytes'),
                    'snapshot_tree_sha256',
                )
            },
        )
        self.assertNotIn('snapshot_parent', self.record)

    def test_snapshot(self) -> None:
        taken = self.take()
        snapshot = self.snapshot_of(self.host.image)
        self.assertEqual('snapshot for monday', snapshot['name'])
        (bitmap,) = self.host.bitmaps()
        self.assertEqual(
            {
                cinder_snapshots.MARK: self.host.image,
                standing.SIZE: str(2 * GIB),
                standing.TREE: taken.tree,
                standing.BITMAP: bitmap,
                standing.SETTLED: self.host.volume['updated_at'],
            },
            snapshot['metadata'],
        )

    def test_target(self) -> None:
        """QEMU is told where the volume is, with the key out of libvirt."""
        self.take()
        (job,) = self.data_plane.updates
        self.assertIsNone(job.base)
        self.assertEqual(
            Volume(
                'volumes',
                f'volume-{self.host.volume["id"]}',
                2 * GIB,
                ('10.0.0.1:6789', '10.0.0.2:6789'),
                'cinder',
                key=base64.b64encode(b's3cret').decode(),
            ),
            job.volume,
        )

    def test_proof(self) -> None:
        """All of it is read back, from the snapshot."""
        self.take()
        (job,) = self.data_plane.verified
        snapshot = self.snapshot_of(self.host.image)
        assert isinstance(job.view, Volume)
        self.assertEqual(f'snapshot-{snapshot["id"]}', job.view.snapshot)
        self.assertIsNone(job.base_leaves)

    def test_properties_of_the_volume(self) -> None:
        self.host.image = self.host.new_image(
            hw_disk_bus='scsi', os_type='linux', note='mine', min_disk=7
        )
        self.host.snapshot()
        volume = self.host.volume
        self.assertEqual(7, volume['size'])
        self.assertEqual(
            {'hw_disk_bus': 'scsi', 'os_type': 'linux'},
            volume['volume_image_metadata'],
        )

    def test_type(self) -> None:
        self.host.set('snapshot', 'volume_type', 'slow')
        self.take()
        self.assertEqual('slow', self.host.volume['volume_type'])

    def test_task_states(self) -> None:
        self.take()
        self.assertEqual(
            ['image_pending_upload', 'image_uploading'],
            [each['task_state'] for each in self.host.task_states],
        )

    def test_words_are_not_inherited(self) -> None:
        self.take()
        written = {n for n in self.record if n.startswith('snapshot_')}
        self.assertEqual(set(), written - set(metadata.OURS))


@ddt.ddt
class NextTest(ShadowCase):
    def setUp(self) -> None:
        super().setUp()
        self.first = self.take()
        self.monday = self.host.image

    def test_increment(self) -> None:
        taken = self.take()
        self.assertEqual(('bitmap', self.monday), (taken.way, taken.parent))
        self.assertEqual(self.monday, self.record['snapshot_parent'])
        job = self.data_plane.updates[-1]
        assert job.base is not None
        self.assertEqual(self.first.tree, job.base.tree)
        self.assertEqual([], self.data_plane.hashed)
        self.assertEqual(
            job.base.leaves, self.data_plane.verified[-1].base_leaves
        )
        self.assertEqual(2, len(self.cinder.snapshots))
        # Nobody was there: nothing is taken back.
        self.assertNotIn('revert', ' '.join(map(str, self.cinder.requests)))

    def test_ledger(self) -> None:
        """The host has the hashes of the newest snapshot alone."""
        self.take()
        ledger = self.host.root / 'state' / 'ledger'
        self.assertEqual(
            [f'{documents.UUID}.vda.{self.host.image}.leaves'],
            os.listdir(ledger),
        )
        self.assertEqual(0o700, ledger.stat().st_mode & 0o777)

    @tables.rows({'lost': (None,), 'damaged': (b'\1' * 65536,)})
    def test_ledger_of_another_host(self, content: bytes | None) -> None:
        """The hashes are made anew, from the snapshot in Cinder."""
        (path,) = (self.host.root / 'state' / 'ledger').iterdir()
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        taken = self.take()
        self.assertEqual('bitmap', taken.way)
        (view,) = self.data_plane.hashed
        assert isinstance(view, Volume)
        self.assertEqual(
            f'snapshot-{self.snapshot_of(self.monday)["id"]}', view.snapshot
        )

    def test_snapshot_has_other_content(self) -> None:
        """Nothing is built on it but what a comparison shows."""
        (path,) = (self.host.root / 'state' / 'ledger').iterdir()
        path.unlink()
        self.data_plane.tree = '1' * 64
        taken = self.take()
        self.assertEqual('compare', taken.way)
        self.assertIn('has other content', taken.reason)
        self.assertIn('code=volume-changed', self.host.log.output)
        last = self.data_plane.hashed[-1]
        assert isinstance(last, Volume)
        self.assertIsNone(last.snapshot)

    def test_somebody_was_there(self) -> None:
        """The writes of a stranger, if any, are taken back."""
        self.cinder.touch(self.host.volume['id'])
        taken = self.take()
        self.assertEqual('bitmap', taken.way)
        self.assertIn('is reverted', self.host.log.output)

    def test_stranger_has_snapshotted(self) -> None:
        """Cinder takes a volume back to its newest snapshot alone."""
        volume = self.host.volume['id']
        self.cinder.touch(volume)
        self.cinder._create(
            {
                'volume_id': volume,
                'name': 'mine',
                'force': True,
                'description': None,
                'metadata': {},
            }
        )
        snapshot = self.host.take()
        taken = increment_of(snapshot)
        self.assertEqual('compare', taken.way)
        self.assertIn('not as the last one', taken.reason)
        (view,) = self.data_plane.hashed
        assert isinstance(view, Volume)
        self.assertIsNone(view.snapshot)
        self.assertEqual('bitmap', increment_of(self.host.take()).way)

    def test_stranger_has_extended(self) -> None:
        self.cinder._extend(self.host.volume, 5)
        taken = self.take()
        self.assertEqual('compare', taken.way)
        self.assertEqual(5, self.mapping()['volume_size'])
        self.assertEqual('bitmap', self.take().way)

    def test_revert_is_refused(self) -> None:
        """A comparison finds what there is."""
        self.cinder.touch(self.host.volume['id'])
        self.cinder._revert = (  # type: ignore[method-assign]
            lambda *_: fake_cinder._error(400, 'no')
        )
        taken = self.take()
        self.assertEqual('compare', taken.way)
        self.assertIn('no', taken.reason)

    def test_volume_is_deleted(self) -> None:
        self.cinder.snapshots.clear()
        self.cinder.volumes.clear()
        taken = self.take()
        self.assertEqual(('full', None), (taken.way, taken.parent))

    def test_snapshots_are_deleted(self) -> None:
        self.cinder.snapshots.clear()
        taken = self.take()
        self.assertEqual(('compare', None), (taken.way, taken.parent))
        self.assertIn('no snapshot that is complete', taken.reason)

    def test_one_in_the_middle_is_deleted(self) -> None:
        self.take()
        del self.cinder.snapshots[self.snapshot_of(self.monday)['id']]
        self.assertEqual('bitmap', self.take().way)

    def test_newest_is_deleted(self) -> None:
        """The bitmap of the one before is gone, and says so."""
        self.take()
        newest = self.host.image
        del self.cinder.snapshots[self.snapshot_of(newest)['id']]
        taken = self.take()
        self.assertEqual(('compare', self.monday), (taken.way, taken.parent))

    def test_server_has_it(self) -> None:
        volume = self.host.volume
        self.cinder.attachments['a'] = {
            'id': 'a',
            'status': 'attached',
            'instance': 'web-2',
            'volume_id': volume['id'],
        }
        volume['status'] = 'in-use'
        error = self.assertRaises(exception.VolumeBusy, self.host.take)
        self.assertIn('is in-use', str(error))
        self.assertEqual(['a'], list(self.cinder.attachments))

    def test_left_attached(self) -> None:
        """By a host that died for good."""
        self.cinder._attach({'volume_uuid': self.host.volume['id']})
        self.assertEqual('bitmap', self.take().way)

    def test_torn_metadata(self) -> None:
        """The owner of the volume may write anything there."""
        snapshot = self.snapshot_of(self.monday)
        for name, value in {
            standing.SIZE: 'large',
            standing.TREE: '',
            standing.BITMAP: 'nova-snapshot-chain-1',
            standing.SETTLED: '',
            cinder_snapshots.MARK: '../../etc',
        }.items():
            mangled = {**snapshot['metadata'], name: value}
            found = standing.ShadowSnapshot.of(
                VolumeSnapshot(*('id', 'v', 'available', None, mangled))
            )
            self.assertIsNone(found, name)

    @tables.rows({'grown': (1, 'bitmap', [2]), 'shrunk': (3, 'full', [3, 2])})
    def test_resized(
        self, gigabytes: int, way: str, volumes: list[int]
    ) -> None:
        """A disk that has shrunk gets a volume of its own."""
        snapshot = self.snapshot_of(self.monday)
        snapshot['size'] = self.host.volume['size'] = gigabytes
        leaves = bytes(32 * 1024 * gigabytes)
        tree = hashlib.sha256(leaves + (gigabytes * GIB).to_bytes(8, 'big'))
        snapshot['metadata'] |= {
            standing.SIZE: str(gigabytes * GIB),
            standing.TREE: tree.hexdigest(),
        }
        taken = self.take()
        self.assertEqual(way, taken.way)
        self.assertEqual(2, self.mapping()['volume_size'])
        self.assertEqual(
            volumes, [each['size'] for each in self.cinder.volumes.values()]
        )

    def test_image_is_gone(self) -> None:
        """The snapshot goes once the next one is there."""
        self.take()
        del self.host.glance.images[self.monday]
        self.take()
        self.assertNotIn(self.monday, self.host.marked())
        self.assertEqual(2, len(self.host.marked()))

    def test_image_of_the_newest_is_gone(self) -> None:
        del self.host.glance.images[self.monday]
        taken = self.take()
        self.assertEqual(('bitmap', self.monday), (taken.way, taken.parent))
        self.assertEqual([self.host.image], self.host.marked())

    def test_cleaning_up_fails(self) -> None:
        """The snapshot is complete all the same."""
        del self.host.glance.images[self.monday]
        self.cinder.troubles['delete_1'] = fake_cinder.internal_error
        self.take()
        self.assertIn('After the snapshot: ', self.host.log.output)


class RawTest(ShadowCase):
    DEVICES = RAW + documents.CHANNEL

    def test_compared(self) -> None:
        self.take()
        taken = self.take()
        self.assertEqual('compare', taken.way)
        self.assertEqual([], self.data_plane.hashed)


@ddt.ddt
class RefusedTest(ShadowCase):
    """Before anything is touched."""

    def in_iscsi(self) -> None:
        self.cinder.connection = lambda volume: {
            **fake_cinder.in_ceph(volume),
            'driver_volume_type': 'iscsi',
        }

    def test_backend(self) -> None:
        self.in_iscsi()
        error = self.fails(exception.VolumeRefused)
        self.assertIn('is reached by iscsi', str(error))
        self.assertEqual({}, self.cinder.volumes)

    def test_connection_that_nobody_knows(self) -> None:
        self.cinder.connection = lambda _volume: {'driver_volume_type': 'rbd'}
        self.fails(exception.VolumeRefused)

    @tables.rows(
        {
            'snapshots': ('most', 0, '1 snapshots'),
            'gigabytes': ('gigabytes', 3, '4 GiB'),
        }
    )
    def test_quota(self, limit: str, value: int, words: str) -> None:
        setattr(self.cinder, limit, value)
        error = self.fails(exception.CinderOverLimit)
        self.assertIn(words, str(error))
        self.assertEqual({}, self.cinder.volumes)

    def test_quota_without_snapshots(self) -> None:
        self.cinder.gigabytes = 2
        self.host.set('snapshot', 'snapshots_take_gigabytes', False)
        self.take()

    def test_volume_comes_to_nothing(self) -> None:
        make = self.cinder._make

        def fail(volume: dict[str, Any]) -> tuple[int, Any]:
            status, document = make(volume)
            document['volume']['status'] = 'error'
            return status, document

        self.cinder._make = fail  # type: ignore[method-assign]
        error = self.fails(exception.VolumeTimeout)
        self.assertIn('is error in Cinder', str(error))

    def test_encrypted_disk(self) -> None:
        """A request for a volume is not answered with an image."""
        host = self.useFixture(ShadowHost(LUKS))
        error = self.assertRaises(exception.RequestNotSupported, host.take)
        self.assertIn('a volume as its target', str(error))

    def test_encrypted_volume(self) -> None:
        self.cinder.connection = lambda volume: {
            **fake_cinder.in_ceph(volume),
            'encrypted': True,
        }
        error = self.fails(exception.VolumeRefused)
        self.assertIn('no key manager', str(error))

    def test_key_of_an_encrypted_volume(self) -> None:
        self.cinder.connection = lambda volume: {
            **fake_cinder.in_ceph(volume),
            'encrypted': True,
        }
        asked = []

        def passphrase(_domain: str, key: str | None) -> bytes:
            asked.append(key)
            return b'phrase'

        self.useFixture(
            fixtures.MockPatchObject(
                self.host.environment, 'volume_passphrase', passphrase
            )
        )
        self.take()
        self.assertEqual([fake_cinder.KEY], asked)
        # Nobody knows what zeros read as once they are decrypted.
        (view,) = self.data_plane.hashed
        assert isinstance(view, Volume)
        self.assertIsNone(view.snapshot)
        (job,) = self.data_plane.updates
        self.assertEqual(
            b'phrase', base64.b64decode(job.volume.passphrase or '')
        )


@ddt.ddt
class AutoTest(ShadowCase):
    """To a volume if that can be done, and else to an image."""

    def setUp(self) -> None:
        super().setUp()
        self.host.set('snapshot', 'quiesce', 'never')

    def take_either(self) -> Snapshot:
        before = self.host.before()
        snapshot = self.host.take(target=Target.AUTO)
        found = self.host.differences(before)
        # The image has data, and no snapshot in Cinder.
        self.assertEqual(
            ['the image and its snapshot are not both there'], found
        )
        self.assertIn('goes to an image instead', self.host.log.output)
        self.assertEqual({}, self.cinder.volumes)
        self.assertGreater(self.record['size'], 0)
        return snapshot

    def test_volume(self) -> None:
        self.assertEqual('full', self.take(target=Target.AUTO).way)

    @tables.rows(
        {
            'quota': ('gigabytes', 0),
            'snapshots': ('most', 0),
        }
    )
    def test_quota(self, limit: str, value: int) -> None:
        setattr(self.cinder, limit, value)
        self.take_either()

    def test_backend(self) -> None:
        self.cinder.connection = lambda volume: {
            **fake_cinder.in_ceph(volume),
            'driver_volume_type': 'iscsi',
        }
        self.take_either()

    def test_cinder_is_away(self) -> None:
        self.cinder.troubles['volumes_1'] = fake_cinder.unavailable
        self.take_either()

    def test_volume_can_not_be_written(self) -> None:
        def fail_once() -> None:
            self.data_plane.at_extract = lambda: None
            raise exception.VolumeUnwritable(reason='no key')

        self.data_plane.at_extract = fail_once
        self.take_either()
        # Nova hears of each state once.
        self.assertEqual(
            ['image_pending_upload', 'image_uploading'],
            [each['task_state'] for each in self.host.task_states],
        )

    def test_encrypted_disk(self) -> None:
        self.host = self.useFixture(ShadowHost(LUKS))
        self.cinder = self.host.cinder
        self.take_either()

    def test_other_failure(self) -> None:
        """A disk that can't be read has no other way."""

        def fail() -> None:
            raise exception.SourceUnreadable(reason='torn')

        self.data_plane.at_extract = fail
        self.fails(exception.SourceUnreadable, target=Target.AUTO)


class FailureTest(ShadowCase):
    """Nothing is left, and the next increment builds on the old snapshot."""

    def setUp(self) -> None:
        super().setUp()
        self.take()
        self.monday = self.host.image
        [self.old] = self.host.bitmaps()

    def is_as_before(self) -> None:
        self.assertEqual([self.old], self.host.bitmaps())
        self.assertEqual([self.monday], self.host.marked())
        self.data_plane.at_extract = lambda: None
        self.data_plane.verdict = Verdict(0, ())
        taken = self.take()
        self.assertEqual(('bitmap', self.monday), (taken.way, taken.parent))

    def test_data_plane_dies(self) -> None:
        def die() -> None:
            raise exception.TransferDied(
                job='update', status='exit status -9', reason=''
            )

        self.data_plane.at_extract = die
        self.fails(exception.TransferDied)
        self.is_as_before()
        # Half of an increment was taken back.
        self.assertIn('is reverted', self.host.log.output)

    def test_snapshot_is_not_proven(self) -> None:
        self.data_plane.verdict = Verdict(1, (1 << 20,))
        error = self.fails(exception.VolumeUnproven)
        self.assertIn('the first one at 1048576', str(error))
        self.is_as_before()

    def test_snapshot_fails(self) -> None:
        self.cinder.errors = 1
        self.fails(exception.VolumeSnapshotFailed)
        self.is_as_before()

    def test_answer_is_lost(self) -> None:
        self.cinder.late_troubles['create_2'] = fake_cinder.broken
        self.fails(exception.CinderUnavailable)
        self.is_as_before()

    def test_volume_stays(self) -> None:
        """The journal knows of it, and somebody else gives it back."""
        self.data_plane.verdict = Verdict(1, (0,))
        for number in range(1, 2000):
            self.cinder.troubles[f'delete_{number}'] = fake_cinder.unavailable
        error = self.assertRaises(exception.VolumeLeftBehind, self.host.take)
        self.assertIn('could not be given back', str(error))
        self.cinder.troubles.clear()
        outcomes = self.host.healer().heal(self.host.context)
        self.assertEqual([], [e for o in outcomes for e in o.errors])
        self.is_as_before()


class InstanceTest(testtools.TestCase):
    def test_volume_backed(self) -> None:
        """The target is that of a disk that is no volume."""
        self.assertIs(Target.VOLUME, INSTANCE.target)
        self.assertIsNone(dataclasses.replace(INSTANCE).block_devices)
