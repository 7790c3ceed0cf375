# SPDX-License-Identifier: Apache-2.0
"""Snapshots into a chain of files, as far as libvirt is concerned."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import ddt
import fixtures
import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.snapshot.destination.base import IncrementProof
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.state import chain
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.transfer.jobs.job import Verdict
from tests import faults
from tests.unit import documents
from tests.unit import tables
from tests.unit.host import DEVICES
from tests.unit.host import FakeHost
from tests.unit.hypervisor.test_domain import LUKS_IN_SOURCE as LUKS

RAW = documents.file_disk('/disk', image_format='raw')


class ChainCase(testtools.TestCase):
    DEVICES = DEVICES

    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost(self.DEVICES))
        self.machine = self.host.machine
        self.chain = self.host.root / 'chain'
        self.data_plane = self.host.data_plane

    def take(self, name: str, connection: Any = None) -> IncrementProof:
        """Take a snapshot, and see that the laws hold."""
        before = self.host.before()
        snapshot = self.snapshot(name, connection)
        self.assertEqual([], self.host.differences(before))
        [disk] = snapshot.disks
        assert disk.increment is not None
        return disk.increment

    def snapshot(
        self,
        name: str,
        connection: Any = None,
        cancellation: Cancellation | None = None,
    ) -> Snapshot:
        return self.host.driver(connection).snapshot_to_chain(
            Instance(documents.NAME),
            str(self.chain),
            name,
            cancellation=cancellation,
        )

    def fails(
        self, error: type[exception.SnapshotError]
    ) -> exception.SnapshotError:
        before = self.host.before()
        raised: exception.SnapshotError = self.assertRaises(
            error, self.snapshot, 'failed'
        )
        self.assertEqual([], self.host.differences(before))
        self.assertEqual([], list(self.chain.glob('failed*')))
        return raised

    def record(self, name: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(
            (self.chain / f'{name}.json').read_text()
        )
        return record

    def bitmaps(self) -> list[str]:
        return list(self.machine.bitmaps.get('vda', {}))


class LiveTest(ChainCase):
    def test_full(self) -> None:
        taken = self.take('monday')
        self.assertEqual(
            ('full', 'it is the first one', None),
            (taken.way, taken.reason, taken.parent),
        )
        [job] = self.data_plane.increments
        self.assertIsNone(job.base)
        self.assertIsNone(job.view.bitmap)  # type: ignore[union-attr]
        record = self.record('monday')
        self.assertEqual(self.bitmaps(), [record['bitmap']])
        self.assertEqual({}, self.machine.checkpoints)

    def test_increment(self) -> None:
        self.take('monday')
        [first] = self.bitmaps()
        taken = self.take('tuesday')
        self.assertEqual(('bitmap', 'monday'), (taken.way, taken.parent))
        self.assertEqual(
            'increment of monday: 1 MiB changed, by bitmap (QEMU has recorded '
            'the changes)',
            str(taken),
        )
        job = self.data_plane.increments[-1]
        assert job.base is not None
        self.assertEqual('monday.qcow2', job.backing)
        self.assertEqual(
            'changes-vda',
            job.view.bitmap,  # type: ignore[union-attr]
        )
        [second] = self.bitmaps()
        self.assertNotEqual(first, second)
        record = self.record('tuesday')
        self.assertEqual(second, record['bitmap'])
        self.assertIsNone(record['reason'])
        self.assertEqual({}, self.machine.checkpoints)

    def test_chain_that_is_long(self) -> None:
        """A full one begins anew, before QEMU needs too long to open all."""
        self.useFixture(fixtures.MockPatchObject(chain, 'LONGEST', 2))
        ways = [self.take(name).way for name in ('a', 'b', 'c', 'd')]
        self.assertEqual(['full', 'bitmap', 'full', 'bitmap'], ways)
        self.assertIsNone(self.record('c')['parent'])
        self.assertIn('no more images', self.record('c')['reason'])

    def test_lost_bitmap(self) -> None:
        self.take('monday')
        self.machine.bitmaps.clear()
        taken = self.take('tuesday')
        self.assertEqual(('compare', 'monday'), (taken.way, taken.parent))
        self.assertIn('missing or broken bitmap', taken.reason)
        self.assertIn('missing or broken', self.record('tuesday')['reason'])
        self.assertEqual('bitmap', self.take('wednesday').way)

    def test_bitmap_is_lost_after_the_plan(self) -> None:
        """The snapshot is taken all the same, without any bitmap."""
        self.take('monday')
        [old] = self.bitmaps()
        fault = faults.Fault(
            faults.Step(0, 'backupBegin', 1), faults.Kind.MEANWHILE
        )
        with faults.Interposer(
            self.host.connection, fault, self.machine.bitmaps['vda'].clear
        ) as interposer:
            taken = self.take('tuesday', interposer.connection)
        self.assertEqual('compare', taken.way)
        self.assertIn('it is refused: ', taken.reason)
        self.assertEqual([], self.bitmaps())
        self.assertIsNone(self.record('tuesday')['bitmap'])
        self.assertIn(old, self.host.log.output)
        self.assertIn('code=changes-untracked', self.host.log.output)

    def test_error_that_stays_without_bitmaps(self) -> None:
        """The second error of the kind is raised."""

        def fail() -> None:
            raise exception.ChangesUntracked(
                domain='d', disk='vda', reason='no'
            )

        self.data_plane.at_extract = fail
        self.assertRaises(exception.ChangesUntracked, self.take, 'monday')
        self.assertEqual([], self.bitmaps())

    def test_backup_is_refused(self) -> None:
        """First without the bitmaps, and then as a copy of the disk."""
        self.take('monday')
        self.machine.refusals['backupBegin'] = 2
        before = self.host.before()
        taken = self.snapshot('tuesday')
        self.assertEqual([], self.host.differences(before))
        self.assertEqual('mirror', taken.method)
        [disk] = taken.disks
        assert disk.increment is not None
        self.assertEqual('compare', disk.increment.way)
        self.assertEqual([], self.bitmaps())

    def test_foreign_chain(self) -> None:
        self.take('monday')
        record = self.record('monday')
        record['uuid'] = record['uuid'].replace('8', '9')
        (self.chain / 'monday.json').write_text(json.dumps(record))
        error = self.fails(exception.ChainForeign)
        self.assertIn('a chain is that of one disk', str(error))

    def test_name_exists(self) -> None:
        self.take('monday')
        [bitmap] = self.bitmaps()
        error = self.assertRaises(
            exception.ChainNameRefused, self.take, 'monday'
        )
        self.assertIn('it is taken', str(error))
        self.assertEqual([bitmap], self.bitmaps())

    def test_name_by_default(self) -> None:
        snapshot = self.host.driver().snapshot_to_chain(
            Instance(documents.NAME), str(self.chain)
        )
        [disk] = snapshot.disks
        assert disk.increment is not None
        self.assertRegex(disk.increment.name, r'^\d{8}T\d{6}Z$')
        assert disk.increment.file is not None
        self.assertTrue(pathlib.Path(disk.increment.file).exists())


class FailureTest(ChainCase):
    """The old bitmap stays, and the next increment builds on it."""

    def setUp(self) -> None:
        super().setUp()
        self.take('monday')
        [self.old] = self.bitmaps()

    def is_as_before(self) -> None:
        self.assertEqual([self.old], self.bitmaps())
        self.data_plane.at_extract = lambda: None
        self.data_plane.verdict = Verdict(0, ())
        taken = self.take('tuesday')
        self.assertEqual(('bitmap', 'monday'), (taken.way, taken.parent))

    def test_data_plane_dies(self) -> None:
        def die() -> None:
            raise exception.TransferDied(
                job='increment', status='exit status -9', reason=''
            )

        self.data_plane.at_extract = die
        self.fails(exception.TransferDied)
        self.is_as_before()

    def test_cancelled(self) -> None:
        cancellation = Cancellation()
        self.data_plane.at_extract = lambda: cancellation.request('SIGINT')
        self.assertRaises(
            exception.Cancelled,
            self.snapshot,
            'failed',
            cancellation=cancellation,
        )
        self.is_as_before()

    def test_image_is_not_proven(self) -> None:
        self.data_plane.verdict = Verdict(1, (1 << 20,))
        error = self.fails(exception.IncrementUnproven)
        self.assertIn('the first one at 1048576', str(error))
        self.is_as_before()

    def test_old_bitmap_stays(self) -> None:
        """The snapshot is complete, and the journal knows of the bitmap."""
        self.data_plane.at_extract = lambda: self.machine.refusals.update(
            {'checkpointCreateXML': undo.ATTEMPTS}
        )
        snapshot = self.snapshot('tuesday')
        self.assertTrue(snapshot.unfinished)
        self.assertIn('The snapshot is complete.', snapshot.notes[0])
        self.assertEqual(2, len(self.bitmaps()))
        self.assertIsNotNone(
            Journal(self.host.directories.state).recall(documents.UUID)
        )
        self.data_plane.at_extract = lambda: None
        self.host.healer().heal(self.host.context)
        self.assertEqual([self.record('tuesday')['bitmap']], self.bitmaps())
        self.assertEqual('bitmap', self.take('wednesday').way)


class AtRestTest(ChainCase):
    """QEMU alone can remove a bitmap."""

    def test_shut_off(self) -> None:
        self.take('monday')
        [old] = self.bitmaps()
        self.machine.stop()
        taken = self.take('tuesday')
        self.assertEqual('compare', taken.way)
        record = self.record('tuesday')
        self.assertEqual(
            (None, [old]), (record['bitmap'], record['stale_bitmaps'])
        )
        self.machine.start()
        taken = self.take('wednesday')
        self.assertEqual('compare', taken.way)
        self.assertEqual([], self.record('wednesday')['stale_bitmaps'])
        self.assertEqual([self.record('wednesday')['bitmap']], self.bitmaps())

    def test_suspended_meanwhile(self) -> None:
        self.take('monday')
        self.host.set('snapshot', 'method', 'cold')
        taken = self.take('tuesday')
        self.assertEqual('compare', taken.way)
        self.assertEqual([], self.bitmaps())


class RawTest(ChainCase):
    DEVICES = RAW + documents.CHANNEL

    def test_compared(self) -> None:
        self.take('monday')
        taken = self.take('tuesday')
        self.assertEqual('compare', taken.way)
        self.assertIn('in its format: raw', taken.reason)
        self.assertEqual({}, self.machine.bitmaps)


@ddt.ddt
class RefusedTest(ChainCase):
    def test_encrypted(self) -> None:
        """Not a byte of what the guest has encrypted is in a file."""
        host = self.useFixture(FakeHost(LUKS))
        error = self.assertRaises(
            exception.NotSupported,
            host.driver().snapshot_to_chain,
            Instance(documents.NAME),
            str(self.chain),
        )
        self.assertIn('encrypted', str(error))
        self.assertEqual([], list(self.chain.glob('*.qcow2')))

    @tables.rows(
        {
            'shrunk': (1 << 20, 'full', 'the disk has shrunk'),
            'grown': (4 << 30, 'bitmap', 'QEMU has recorded the changes'),
        }
    )
    def test_resized(self, size: int, way: str, reason: str) -> None:
        self.take('monday')
        record = self.record('monday')
        other = {1 << 20: 4 << 30, 4 << 30: 1 << 20}[size]
        record['size'] = other
        (self.chain / 'monday.json').write_text(json.dumps(record))
        taken = self.take('tuesday')
        self.assertEqual((way, reason), (taken.way, taken.reason))

    def test_hashes_are_missing(self) -> None:
        self.take('monday')
        (self.chain / 'monday.leaves').unlink()
        self.assertEqual('bitmap', self.take('tuesday').way)
        self.assertEqual('tuesday', self.take('wednesday').parent)

    def test_hashes_are_damaged(self) -> None:
        self.take('monday')
        errors = [exception.LeavesDamaged(path='monday', reason='short')]

        def fail_once() -> None:
            if errors:
                raise errors.pop()

        self.data_plane.at_extract = fail_once
        before = self.bitmaps()
        taken = self.take('tuesday')
        self.assertEqual('full', taken.way)
        self.assertNotEqual(before, self.bitmaps())

    def test_new_hashes_are_damaged(self) -> None:
        """The storage of the chain is broken, and nothing helps."""

        def fail() -> None:
            raise exception.LeavesDamaged(path='failed', reason='short')

        self.data_plane.at_extract = fail
        self.fails(exception.LeavesDamaged)

    def test_disk_has_other_hashes(self) -> None:
        """Nothing is built on a snapshot that is damaged."""
        self.take('monday')
        (self.chain / 'monday.leaves').unlink()
        self.data_plane.tree = '1' * 64
        taken = self.take('tuesday')
        self.assertEqual(('full', None), (taken.way, taken.parent))
        self.assertIn('hashes of the last one are of no use', taken.reason)
        self.assertEqual('bitmap', self.take('wednesday').way)


class ShutDownTest(ChainCase):
    def test_guest_dies_meanwhile(self) -> None:
        """The bitmap that was begun takes some KiB of the image."""
        self.take('monday')

        def die() -> None:
            self.machine.stop()
            raise exception.SourceUnreadable(reason='the server is gone')

        self.data_plane.at_extract = die
        self.assertRaises(exception.BackupFailed, self.snapshot, 'failed')
        self.assertEqual(libvirt.VIR_DOMAIN_SHUTOFF, self.machine.state)
        self.data_plane.at_extract = lambda: None
        self.machine.start()
        self.assertEqual('monday', self.take('tuesday').parent)
