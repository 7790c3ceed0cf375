# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tempfile

import ddt

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor.backup_job import BackupJob
from nova_snapshot_driver.hypervisor.backup_xml import Place
from nova_snapshot_driver.hypervisor.checkpoint_xml import UNTRACKED
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.checkpoint_xml import Tracking
from nova_snapshot_driver.hypervisor.jobs import abort_limit
from tests.unit import documents
from tests.unit import tables
from tests.unit.hypervisor.guest_case import GuestCase

OLD = Bitmap('vda', 'nova-snapshot-chain-old')
NEW = Bitmap('vda', 'nova-snapshot-chain-new')


class JobCase(GuestCase):
    def job(self, tracking: Tracking) -> BackupJob:
        directory = tempfile.mkdtemp(dir=self.host.root)
        place = Place(f'{directory}/s', directory)
        return BackupJob(
            self.guest, [self.root()], place, abort_limit(5), tracking
        )


@ddt.ddt
class TrackedTest(JobCase):
    def test_both_bitmaps(self) -> None:
        self.machine.bitmaps['vda'] = {OLD.name: 65536}
        self.guest.checkpoints.define(OLD)
        with self.job(Tracking(OLD, NEW)).running():
            self.assertEqual(
                {OLD.name, NEW.name}, set(self.machine.bitmaps['vda'])
            )

    @tables.rows(
        {
            'name_exists': ({NEW.name: 0}, Tracking(new=NEW), 'already'),
            'lost': ({}, Tracking(OLD), 'missing or broken bitmap'),
            'inconsistent': (
                {OLD.name: None},
                Tracking(OLD, NEW),
                'missing or broken bitmap',
            ),
        }
    )
    def test_refused(
        self, bitmaps: dict[str, int | None], tracking: Tracking, words: str
    ) -> None:
        self.machine.bitmaps['vda'] = dict(bitmaps)
        self.machine.checkpoints[OLD.name] = 'vda'
        error = self.assertRaises(
            exception.ChangesUntracked, self.begin, self.job(tracking)
        )
        self.assertIn(words, str(error))
        self.assertIsNone(self.machine.backup)
        self.assertEqual(bitmaps, self.machine.bitmaps['vda'])

    def test_refused_without_bitmaps(self) -> None:
        self.machine.is_migrating = True
        self.assertRaises(
            exception.BackupRefused, self.begin, self.job(UNTRACKED)
        )

    def begin(self, job: BackupJob) -> None:
        with job.running():
            self.fail('it is refused')


class RawDiskTest(JobCase):
    DEVICES = documents.file_disk('/disk', image_format='raw')

    def test_refused(self) -> None:
        error = self.assertRaises(exception.ChangesUntracked, self.begin)
        self.assertIn('storage type raw', str(error))

    def begin(self) -> None:
        with self.job(Tracking(new=NEW)).running():
            self.fail('it is refused')
