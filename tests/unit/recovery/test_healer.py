# SPDX-License-Identifier: Apache-2.0
"""A snapshot has died; the next one begins."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from typing import Any

import ddt
import fixtures
import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import private_files
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.codec import FilePath
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Definition
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.recovery import dead_snapshot
from nova_snapshot_driver.recovery.account import Outcome
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings import cinder_snapshots
from nova_snapshot_driver.takings.device import DetachedDevice
from nova_snapshot_driver.takings.draft import Draft
from nova_snapshot_driver.takings.freeze import Freeze
from nova_snapshot_driver.takings.glance_image import UnfinishedImage
from nova_snapshot_driver.takings.pause import Pause
from nova_snapshot_driver.takings.undefine import Undefine
from tests import faults
from tests.unit import documents
from tests.unit import fake_cinder
from tests.unit import tables
from tests.unit.entries import taken
from tests.unit.fake_glance import Answer
from tests.unit.fake_glance import unavailable
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.host import DEVICES
from tests.unit.host import TIMEOUT
from tests.unit.host import FakeHost
from tests.unit.volumes_host import VolumesHost

#: A draft of which nothing is left.
GONE = '/image.0a1b2c3d.part'


class RecoveryCase(testtools.TestCase):
    devices = DEVICES

    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost(self.devices))
        self.machine = self.host.machine
        self.before = self.host.before()
        self.journal = Journal(self.host.directories.state)
        self.guest = self.host.guest()

    def die(self) -> None:
        """Leave what a snapshot leaves that is killed in its copy."""
        self.journal.remember(taken(self.guest.definition()))
        self.guest.undefine()
        space = (
            pathlib.Path(self.host.directories.snapshots)
            / f'{documents.UUID}-x1y2z3'
        )
        space.mkdir(parents=True)
        (space / 'delta').touch()
        flags = (
            libvirt.VIR_DOMAIN_BLOCK_REBASE_COPY
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT
        )
        FakeDomain(self.machine).blockRebase(
            'vda', str(space / 'delta'), 0, flags
        )

    def heal(self, guest: Guest | None = None) -> None:
        dead_snapshot.heal(
            guest or self.guest,
            self.journal,
            self.host.settings.undo,
            self.host.context,
        ).check()

    def find(self, domain: str, patience: float = TIMEOUT) -> Guest:
        return dead_snapshot.find_guest(
            Host(self.host.connection), self.journal, domain, patience
        )

    def is_healed(self) -> None:
        self.assertEqual([], self.host.differences(self.before))


class HealTest(RecoveryCase):
    def test_nothing_to_do(self) -> None:
        self.heal()
        self.is_healed()

    def test_died_in_its_copy(self) -> None:
        self.die()
        self.heal()
        self.is_healed()

    def test_died_after_its_copy(self) -> None:
        self.die()
        FakeDomain(self.machine).blockJobAbort('vda', 0)
        self.heal()
        self.is_healed()

    def test_died_before_it_had_done_anything(self) -> None:
        self.journal.remember(taken(self.guest.definition()))
        self.heal()
        self.is_healed()

    def test_domain_that_was_defined_otherwise_meanwhile(self) -> None:
        """A definition of Nova's that is newer than the journal stays."""
        self.die()
        newer = documents.inactive(documents.file_disk('/new'))
        self.host.connection.defineXML(newer)
        self.heal()
        self.assertEqual(newer, self.machine.config)
        self.assertIsNone(self.journal.recall(documents.UUID))

    def test_refused_once(self) -> None:
        """A refused undo is repeated by the next snapshot."""
        for call in ('blockJobAbort', 'isPersistent', 'setAutostart'):
            self.die()
            self.machine.refusals[call] = 1
            self.assertRaises(exception.HypervisorError, self.heal)
            self.heal()
            self.is_healed()

    def test_shut_off(self) -> None:
        self.machine.stop()
        self.machine.autostart = False
        before = self.host.before()
        self.heal()
        self.assertEqual([], self.host.differences(before))

    def test_other_domains_are_left_alone(self) -> None:
        others = pathlib.Path(self.host.directories.snapshots) / 'other-x'
        others.mkdir(parents=True)
        self.heal()
        self.assertTrue(others.exists())


class ForeignJobTest(RecoveryCase):
    def refused(self) -> exception.ForeignBlockJob:
        job = dict(self.machine.jobs)
        error = self.assertRaises(exception.ForeignBlockJob, self.heal)
        self.assertEqual(job, self.machine.jobs)
        self.assertIsInstance(error, exception.ForeignBlockJob)
        assert isinstance(error, exception.ForeignBlockJob)
        return error

    def test_copy_to_elsewhere(self) -> None:
        FakeDomain(self.machine).begin_copy('vda', '/backup/vda')
        self.assertIn('copy to /backup/vda', str(self.refused()))

    def test_directory_that_only_begins_like_ours(self) -> None:
        FakeDomain(self.machine).begin_copy(
            'vda', f'{self.host.directories.snapshots}-of-others/vda'
        )
        self.refused()

    def test_way_out_of_our_directory(self) -> None:
        FakeDomain(self.machine).begin_copy(
            'vda', f'{self.host.directories.snapshots}/../vda'
        )
        self.refused()

    def test_job_without_a_mirror(self) -> None:
        FakeDomain(self.machine).begin_copy('vda', None)
        self.assertIn('pull', str(self.refused()))

    def test_snapshot_is_refused_and_nothing_else_happens(self) -> None:
        self.machine.polls_until_ready = 99
        FakeDomain(self.machine).begin_copy('vda', '/backup/vda')
        before = self.host.differences(self.before)
        self.assertRaises(exception.ForeignBlockJob, self.host.snapshot)
        self.assertEqual(before, self.host.differences(self.before))
        self.assertNotIn(self.host.image, self.host.glance.images)

    def test_other_disk(self) -> None:
        FakeDomain(self.machine).begin_copy('vdb', '/backup/vdb')
        self.heal()
        self.assertEqual(['vdb'], list(self.machine.jobs))

    def test_our_directory_by_another_name(self) -> None:
        self.die()
        link = self.host.root / 'link'
        link.symlink_to(self.host.directories.snapshots)
        self.host.conf.set_override(
            'snapshots_directory', str(link), group='libvirt'
        )
        self.heal()
        self.assertEqual({}, self.machine.jobs)


class HealColdTest(RecoveryCase):
    """A snapshot died while the guest was saved and stopped."""

    devices = DEVICES + documents.PCI_DEVICE

    def setUp(self) -> None:
        super().setUp()
        [self.device] = self.guest.describe().host_devices
        self.journal.remember(
            taken(
                self.guest.definition(),
                power_state=PowerState.RUNNING,
                devices=(self.device,),
                frozen=True,
            )
        )

    def test_before_anything_was_done(self) -> None:
        self.heal()
        self.is_healed()

    def test_without_its_device(self) -> None:
        self.guest.devices.detach(self.device, TIMEOUT, Cancellation())
        self.heal()
        self.is_healed()

    def test_frozen(self) -> None:
        self.guest.agent.freeze()
        self.heal()
        self.is_healed()

    def test_saved(self) -> None:
        self.guest.devices.detach(self.device, TIMEOUT, Cancellation())
        self.guest.agent.freeze()
        self.guest.power.managed_save(TIMEOUT, Cancellation())
        self.heal()
        self.is_healed()

    def test_save_that_was_cut_short(self) -> None:
        """An unfinished save would be in the way of the next undefine."""
        self.guest.devices.detach(self.device, TIMEOUT, Cancellation())
        self.guest.power.managed_save(TIMEOUT, Cancellation())
        saved = self.machine.saved
        self.guest.power.resume_from_save(PowerState.RUNNING)
        self.machine.saved = saved
        self.heal()
        self.is_healed()

    def test_started_by_a_person(self) -> None:
        self.guest.devices.detach(self.device, TIMEOUT, Cancellation())
        self.guest.agent.freeze()
        self.guest.power.managed_save(TIMEOUT, Cancellation())
        self.guest.power.resume_from_save(PowerState.RUNNING)
        self.heal()
        self.is_healed()

    def test_stopped_by_a_person(self) -> None:
        """Nobody starts a guest that somebody wanted stopped."""
        self.machine.stop()
        self.heal()
        self.assertFalse(self.guest.is_active())
        self.assertIsNone(self.journal.recall(documents.UUID))


@ddt.ddt
class ImageTest(RecoveryCase):
    """A snapshot died, and its image is not complete."""

    def die_with(self, status: str = 'queued') -> None:
        self.host.glance.images[self.host.image]['status'] = status
        entry = taken(self.guest.definition(), image=self.host.image)
        self.journal.remember(entry.given_back())

    def images(self) -> list[str]:
        return list(self.host.glance.images)

    def remedy_is_known(self, reason: str) -> None:
        """The undo is tried again; a reader of the log may be faster."""
        entry = taken(self.guest.definition(), image=self.host.image)
        self.assertEqual(
            entry.given_back(), self.journal.recall(documents.UUID)
        )
        self.assertEqual(
            [f'in the state directory: {documents.UUID}.json'],
            self.host.differences(self.before),
        )
        self.assertEqual([self.host.image], self.images())
        self.assertIn(
            f'openstack image delete {self.host.image}', self.host.log.output
        )
        self.assertIn(reason, self.host.log.output)
        self.assertNotIn('is gone', self.host.log.output)
        self.is_discarded_the_next_time()

    def is_discarded_the_next_time(self) -> None:
        self.host.glance.troubles.clear()
        self.host.context.troubles.clear()
        self.heal()
        self.is_healed()
        self.assertEqual([], self.images())
        self.assertIn(
            f'Image {self.host.image} of a snapshot that died is gone',
            self.host.log.output,
        )

    @tables.rows({status: (status,) for status in ('queued', 'saving')})
    def test_unfinished(self, status: str) -> None:
        self.die_with(status)
        self.heal()
        self.is_healed()
        self.assertEqual([], self.images())
        self.assertIn(
            f'Image {self.host.image} of a snapshot that died is gone',
            self.host.log.output,
        )
        # The undo had succeeded before.
        self.assertNotIn('given it back', self.host.log.output)

    def test_complete(self) -> None:
        """The process may have died when all was done."""
        self.die_with('active')
        self.heal()
        self.is_healed()
        self.assertEqual([self.host.image], self.images())
        self.assertNotIn('image delete', self.host.log.output)

    def test_deleted_by_somebody_else(self) -> None:
        self.die_with()
        self.host.glance.images.clear()
        self.heal()
        self.is_healed()
        self.assertNotIn('image delete', self.host.log.output)

    def test_guest_is_given_back_too(self) -> None:
        self.die()
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        self.journal.remember(entry.with_(UnfinishedImage(self.host.image)))
        self.heal()
        self.is_healed()
        self.assertEqual([], self.images())
        self.assertIn('before it had given it back', self.host.log.output)

    def test_guest_is_given_back_though_glance_is_away(self) -> None:
        self.die()
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        self.journal.remember(entry.with_(UnfinishedImage(self.host.image)))
        self.host.glance.troubles = dict.fromkeys(range(1, 50), unavailable)
        self.heal()
        self.remedy_is_known('Service unavailable')
        self.assertEqual(
            1, self.host.log.output.count('before it had given it back')
        )

    def test_what_is_defined_meanwhile_stays(self) -> None:
        """An image that is still there is no reason to touch the guest."""
        self.die_with()
        self.host.glance.troubles = dict.fromkeys(range(1, 50), unavailable)
        self.heal()
        newer = documents.inactive(documents.file_disk('/new'))
        self.host.connection.defineXML(newer)
        self.machine.autostart = False
        before = self.host.before()
        self.host.glance.troubles.clear()
        self.heal()
        self.assertEqual([], self.host.differences(before))
        self.assertEqual([], self.images())

    def test_no_image(self) -> None:
        self.die()
        self.heal()
        self.is_healed()
        self.assertEqual(0, self.host.context.accesses)

    def test_glance_is_away(self) -> None:
        self.die_with()
        self.host.glance.troubles = dict.fromkeys(range(1, 50), unavailable)
        self.heal()
        self.remedy_is_known('Service unavailable')

    def test_keystone_is_away(self) -> None:
        self.die_with()
        self.host.context.troubles[1] = exception.KeystoneUnavailable(
            reason='connection refused'
        )
        self.heal()
        self.remedy_is_known('connection refused')

    def test_image_of_somebody_else(self) -> None:
        self.die_with()
        self.host.glance.troubles[1] = lambda: Answer(403)
        self.heal()
        self.remedy_is_known('403')

    def test_nobody_has_a_way_to_glance(self) -> None:
        self.die_with()
        dead_snapshot.heal(
            self.guest, self.journal, self.host.settings.undo, None
        ).check()
        self.assertEqual([], self.host.glance.requests)
        # The reason is not a missing cloud, and no advice to name one is
        # given.
        self.assertNotIn('There is no cloud', self.host.log.output)
        self.remedy_is_known('Glance is not asked')

    def test_tokens_are_not_in_the_log(self) -> None:
        self.die_with()
        self.heal()
        for token in ('t0ken', 's3rvice'):
            self.assertNotIn(token, self.host.log.output)


class VolumesTest(testtools.TestCase):
    """A snapshot of volumes died."""

    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(VolumesHost(2))
        self.before = self.host.before()
        self.journal = Journal(self.host.directories.state)
        self.entry = taken(
            self.host.guest().definition(),
            persistent=False,
            image=self.host.image,
            volumes=self.host.volumes,
            paused=True,
            frozen=True,
        )

    def die(self, status: str = 'queued') -> None:
        """Leave what a snapshot leaves that dies while the guest is frozen."""
        self.journal.remember(self.entry)
        self.host.glance.images[self.host.image]['status'] = status
        machine = FakeDomain(self.host.machine)
        machine.fsFreeze()
        machine.suspend()
        for volume in self.host.volumes:
            self.host.cinder._create(
                {
                    'volume_id': volume,
                    'force': True,
                    'name': '',
                    'description': '',
                    'metadata': {cinder_snapshots.MARK: self.host.image},
                }
            )

    def heal(self) -> None:
        self.host.healer().heal(self.host.context)

    def test_all_is_undone(self) -> None:
        self.die()
        self.heal()
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual({}, self.host.glance.images)

    def test_image_is_gone_already(self) -> None:
        self.die()
        self.host.glance.images.clear()
        self.heal()
        self.assertEqual([], self.host.differences(self.before))

    def test_image_is_complete(self) -> None:
        """A complete image stays, with all that it maps."""
        self.die('active')
        self.heal()
        self.assertEqual([], self.host.differences(self.before))
        self.assertIn(self.host.image, self.host.glance.images)

    def test_cinder_is_away(self) -> None:
        """The guest goes on, and the rest is tried again."""
        self.die()
        self.host.cinder.troubles = {
            f'list_{n}': fake_cinder.unavailable for n in range(100_000)
        }
        with fixtures.MockPatchObject(
            cinder_snapshots, 'RECOVERY_PATIENCE', 0.1
        ):
            self.heal()
        self.assertEqual(self.before, self.host.before())
        self.assertFalse(self.host.machine.frozen)
        self.assertIn('volume snapshot delete', self.host.log.output)
        self.assertEqual(
            self.entry.given_back(), self.journal.recall(documents.UUID)
        )
        self.host.cinder.troubles = {}
        self.heal()
        self.assertEqual([], self.host.differences(self.before))

    def test_somebody_has_let_it_go_on(self) -> None:
        self.die()
        FakeDomain(self.host.machine).resume()
        self.heal()
        self.assertEqual([], self.host.differences(self.before))

    def test_guest_has_stopped(self) -> None:
        self.die()
        self.host.machine.stop()
        self.heal()
        self.assertEqual(
            [],
            self.host.differences(
                dataclasses.replace(self.before, state='shut off')
            ),
        )


class LostTest(RecoveryCase):
    """A snapshot died, and its domain was deleted then."""

    def setUp(self) -> None:
        super().setUp()
        self.entry = taken(
            self.guest.definition(), persistent=False, image=self.host.image
        )
        self.journal.remember(self.entry)
        self.space = (
            pathlib.Path(self.host.directories.snapshots)
            / f'{documents.UUID}-x1y2z3'
        )
        self.space.mkdir(parents=True)
        (self.space / 'image').touch()
        self.machine.config = None
        self.machine.stop()

    def forget(self) -> None:
        dead_snapshot.forget_lost(
            documents.UUID,
            documents.NAME,
            self.journal,
            self.host.settings.undo,
            self.host.context,
        ).check()

    def test_nothing_is_left(self) -> None:
        self.forget()
        self.assertEqual({}, self.host.glance.images)
        self.assertIsNone(self.journal.recall(documents.UUID))
        self.assertFalse(self.space.exists())

    def test_glance_is_away(self) -> None:
        self.host.glance.troubles = dict.fromkeys(range(1, 50), unavailable)
        self.forget()
        rest = self.journal.recall(documents.UUID)
        self.assertEqual(self.entry.given_back(), rest)
        self.assertFalse(self.space.exists())
        self.assertIn(
            f'openstack image delete {self.host.image}', self.host.log.output
        )
        assert rest is not None
        self.host.glance.troubles.clear()
        self.forget()
        self.assertIsNone(self.journal.recall(documents.UUID))
        self.assertEqual({}, self.host.glance.images)

    def test_snapshot_is_alive(self) -> None:
        with (
            testtools.ExpectedException(exception.DomainBusy),
            self.journal.exclusive(documents.UUID, documents.NAME),
        ):
            self.forget()
        self.assertIn(self.host.image, self.host.glance.images)
        self.assertEqual(self.entry, self.journal.recall(documents.UUID))
        self.assertTrue(self.space.exists())


class ElsewhereTest(RecoveryCase):
    """The configuration is not what it was when the snapshot died."""

    def setUp(self) -> None:
        super().setUp()
        self.former = self.host.root / 'former'
        entry = taken(self.guest.definition(), directories=(str(self.former),))
        self.journal.remember(entry)
        self.space = self.former / f'{documents.UUID}-x1y2z3'
        self.space.mkdir(parents=True)
        self.delta = self.space / 'delta'
        self.delta.touch()

    def test_files(self) -> None:
        self.heal()
        self.is_healed()
        self.assertEqual([], os.listdir(self.former))

    def test_copy(self) -> None:
        FakeDomain(self.machine).begin_copy('vda', str(self.delta))
        self.heal()
        self.is_healed()
        self.assertEqual([], os.listdir(self.former))

    def test_files_stay_while_the_copy_does(self) -> None:
        FakeDomain(self.machine).begin_copy('vda', str(self.delta))
        self.machine.refusals['blockJobAbort'] = 1
        self.assertRaises(exception.HypervisorError, self.heal)
        self.assertTrue(self.delta.exists())
        self.heal()
        self.is_healed()
        self.assertEqual([], os.listdir(self.former))

    def test_one_that_can_not_be_removed(self) -> None:
        with fixtures.MockPatch('shutil.rmtree'):
            error = self.assertRaises(exception.UndoFailed, self.heal)
        self.assertIn(str(self.space), str(error))
        self.heal()
        self.is_healed()
        self.assertEqual([], os.listdir(self.former))

    def test_of_somebody_else(self) -> None:
        """For root the journal proves nothing that its owner could not do."""
        if os.geteuid() != private_files.ROOT:
            self.skipTest('a directory is given away by root alone')
        os.chown(self.former, 65534, 65534)
        error = self.assertRaises(exception.UndoFailed, self.heal)
        self.assertIn(str(self.space), str(error))
        self.assertTrue(self.delta.exists())
        os.chown(self.former, 0, 0)
        self.heal()
        self.is_healed()

    def test_link_in_place_of_a_directory(self) -> None:
        other = self.host.root / f'{documents.UUID}-precious'
        other.mkdir()
        (other / 'delta').touch()
        self.delta.unlink()
        self.space.rmdir()
        self.space.symlink_to(other)
        self.assertRaises(exception.UndoFailed, self.heal)
        self.assertTrue((other / 'delta').exists())

    def test_draft_of_somebody_else(self) -> None:
        if os.geteuid() != private_files.ROOT:
            self.skipTest('a file is given away by root alone')
        draft = self.host.root / 'web-1.qcow2.0a1b2c3d.part'
        draft.touch()
        os.chown(draft, 65534, 65534)
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        self.journal.remember(entry.with_(Draft(FilePath(str(draft)))))
        error = self.assertRaises(exception.UndoFailed, self.heal)
        self.assertIn(f'remove {draft}', str(error))
        self.assertTrue(draft.exists())

    def test_draft(self) -> None:
        draft = self.host.root / 'web-1.qcow2.0a1b2c3d.part'
        draft.touch()
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        self.journal.remember(entry.with_(Draft(FilePath(str(draft)))))
        self.heal()
        self.is_healed()
        self.assertFalse(draft.exists())

    def test_draft_that_can_not_be_removed(self) -> None:
        draft = self.host.root / 'a-directory.0a1b2c3d.part'
        draft.mkdir()
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        self.journal.remember(entry.with_(Draft(FilePath(str(draft)))))
        error = self.assertRaises(exception.UndoFailed, self.heal)
        self.assertIn(str(draft), str(error))
        self.assertEqual(
            taken(self.guest.definition(), persistent=False, draft=str(draft)),
            self.journal.recall(documents.UUID),
        )


@ddt.ddt
class IndependentTest(RecoveryCase):
    """Undos that fail are in the way of no other."""

    devices = DEVICES + documents.PCI_DEVICE

    def setUp(self) -> None:
        super().setUp()
        [self.device] = self.guest.describe().host_devices
        self.die()
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        self.journal.remember(
            entry.with_(
                DetachedDevice(self.device),
                Freeze(),
                Pause(),
                UnfinishedImage(self.host.image),
            )
        )
        self.guest.devices.detach(self.device, TIMEOUT, Cancellation())
        FakeDomain(self.machine).fsFreeze()
        FakeDomain(self.machine).suspend()

    def rest(self) -> Entry:
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        return entry

    @tables.rows(
        {
            name: (call, stays)
            for name, call, stays in (
                ('resume', 'resume', {'pause', 'freeze'}),
                ('thaw', 'fsThaw', {'freeze'}),
                ('copy', 'blockJobAbort', set()),
                ('define', 'setAutostart', {'undefine'}),
                ('device', 'attachDeviceFlags', {'device'}),
            )
        }
    )
    def test_one_is_refused(self, call: str, stays: set[str]) -> None:
        self.machine.refusals[call] = 1_000
        error = self.assertRaises(exception.SnapshotError, self.heal)
        self.assertNotIsInstance(error, exception.RecoveryIncomplete)
        rest = self.rest()
        self.assertEqual(
            stays,
            {each.KIND for each in rest.takings},
        )
        self.assertEqual({}, self.host.glance.images)
        self.machine.refusals.clear()
        self.heal()
        self.is_healed()

    def test_several_are_refused(self) -> None:
        for call in ('resume', 'blockJobAbort', 'setAutostart'):
            self.machine.refusals[call] = 1_000
        error = self.assertRaises(exception.RecoveryIncomplete, self.heal)
        self.assertEqual(3, error.fields['count'])
        for words in ('resume', 'abort the block job', 'define'):
            self.assertIn(words, str(error))
        self.machine.refusals.clear()
        self.heal()
        self.is_healed()

    def test_job_of_somebody_else(self) -> None:
        """A foreign job is respected, and everything else is undone."""
        self.machine.end_job('vda', None)
        FakeDomain(self.machine).begin_copy('vda', '/backup/vda')
        self.assertRaises(exception.ForeignBlockJob, self.heal)
        self.assertTrue(self.rest().is_given_back)
        self.assertEqual({}, self.host.glance.images)
        self.assertEqual(['vda'], list(self.machine.jobs))
        self.machine.end_job('vda', None)
        self.heal()
        self.is_healed()

    def test_domain_is_deleted_meanwhile(self) -> None:
        self.journal.remember(self.rest().given_back())
        self.machine.stop()
        self.machine.config = None
        (outcome,) = self.host.healer().heal(self.host.context)
        self.assertEqual([], outcome.errors)
        self.assertIsNone(self.journal.recall(documents.UUID))


class UnknownJobTest(RecoveryCase):
    """No journal knows of it."""

    def test_ours(self) -> None:
        self.die()
        self.guest.define(self.defined())
        self.journal.forget(documents.UUID)
        (outcome,) = self.host.healer().heal(self.host.context)
        self.assertEqual([], outcome.errors)
        self.is_healed()

    def defined(self) -> Definition:
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        return entry.of_kind(Undefine)[0].definition

    def test_libvirt_does_not_list_the_domains(self) -> None:
        """The entries of the journal are undone all the same."""
        self.die()
        refused = faults.libvirt_error(
            libvirt.VIR_ERR_OPERATION_FAILED, 'refused'
        )
        with fixtures.MockPatchObject(
            type(self.host.connection), 'listAllDomains', side_effect=refused
        ):
            unseen, healed = self.host.healer().heal(self.host.context)
        self.is_healed()
        self.assertEqual([], healed.errors)
        # Nobody knows of which other domains something is left.
        self.assertEqual((None, None), (unseen.domain, unseen.uuid))
        self.assertEqual(1, len(unseen.errors))

    def test_one_that_can_not_be_looked_at(self) -> None:
        self.machine.refusals['backupGetXMLDesc'] = 1
        (outcome,) = self.host.healer().heal(self.host.context)
        self.assertEqual(documents.UUID, outcome.uuid)
        self.assertEqual(1, len(outcome.errors))
        self.is_healed()

    def test_of_somebody_else(self) -> None:
        FakeDomain(self.machine).begin_copy('vda', '/backup/vda')
        self.assertEqual([], self.host.healer().heal(self.host.context))
        self.assertIn('vda', self.machine.jobs)


class RehearsalTest(RecoveryCase):
    """A rehearsal names the undos and does none of them."""

    def left(self) -> list[str]:
        """Without how far a job has come, which every look moves on."""
        return [
            each
            for each in self.host.differences(self.before)
            if 'has a block job' not in each
        ]

    def rehearse(self) -> Outcome:
        (outcome,) = self.host.healer().rehearse()
        return outcome

    def test_nothing_is_touched(self) -> None:
        self.die()
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        entry = entry.with_(
            Freeze(),
            UnfinishedImage(self.host.image),
            Draft(FilePath(GONE)),
        )
        self.journal.remember(entry)
        before = self.left()
        with faults.Interposer(self.host.connection) as interposer:
            healer = self.host.healer(interposer.connection)
            (outcome,) = healer.rehearse()
        self.assertEqual(
            [
                'thaw its file systems',
                'end the copy of its disk',
                'have it defined',
                'remove its temporary files in '
                f'{self.host.directories.snapshots}',
                f'delete image {self.host.image}, unless it is complete',
            ],
            [step.what for step in outcome.steps],
        )
        self.assertEqual([], outcome.errors)
        self.assertEqual(before, self.left())
        self.assertEqual(entry, self.journal.recall(documents.UUID))
        self.assertEqual(0, self.host.context.accesses)
        self.assertEqual([], self.host.glance.requests)
        self.heal()
        self.is_healed()

    def test_job_of_somebody_else(self) -> None:
        self.journal.remember(taken(self.guest.definition()))
        FakeDomain(self.machine).begin_copy('vda', '/backup/vda')
        (error,) = self.rehearse().errors
        self.assertIsInstance(error, exception.ForeignBlockJob)

    def test_guest_that_is_suspended(self) -> None:
        self.journal.remember(
            taken(
                self.guest.definition(),
                power_state=PowerState.RUNNING,
                frozen=True,
            )
        )
        self.guest.agent.freeze()
        self.guest.power.managed_save(TIMEOUT, Cancellation())
        self.assertEqual(
            ['have it running again', 'thaw its file systems'],
            [step.what for step in self.rehearse().steps[:2]],
        )
        self.assertFalse(self.guest.is_active())

    def test_domain_that_is_lost(self) -> None:
        self.die()
        self.machine.stop()
        self.assertEqual('have it defined', self.rehearse().steps[0].what)
        self.assertTrue(self.machine.gone)

    def test_job_that_no_journal_knows(self) -> None:
        self.die()
        self.journal.forget(documents.UUID)
        self.assertEqual(
            [
                'end the copy of its disk',
                'remove its temporary files in '
                f'{self.host.directories.snapshots}',
            ],
            [step.what for step in self.rehearse().steps],
        )
        self.assertIn('vda', self.machine.jobs)

    def test_snapshot_that_is_alive(self) -> None:
        self.die()
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.state.locks.is_locked',
                return_value=True,
            )
        )
        self.assertEqual([], self.host.healer().rehearse())


class FindTest(RecoveryCase):
    """The guest stopped while its domain was transient."""

    def setUp(self) -> None:
        super().setUp()
        self.after = self.before.__class__(
            **{**vars(self.before), 'state': 'shut off'}
        )

    def lose(self) -> None:
        self.die()
        self.machine.stop()

    def test_lost_domain_is_defined_again(self) -> None:
        for name in (documents.NAME, documents.UUID):
            self.machine.start()
            self.lose()
            guest = self.find(name)
            self.assertEqual(documents.UUID, guest.uuid)
            self.heal(guest)
            self.assertEqual([], self.host.differences(self.after))

    def test_refused_once(self) -> None:
        self.lose()
        self.machine.refusals['setAutostart'] = 1
        self.assertRaises(exception.HypervisorError, self.find, documents.NAME)
        self.heal(self.find(documents.NAME))
        self.assertEqual([], self.host.differences(self.after))

    def test_unknown(self) -> None:
        self.lose()
        self.assertRaises(exception.DomainNotFound, self.find, 'web-9')

    def test_not_while_another_snapshot_has_it(self) -> None:
        self.lose()
        with (
            testtools.ExpectedException(exception.DomainBusy),
            self.journal.exclusive(documents.UUID, documents.NAME),
        ):
            # A second file descriptor of this process stands for another
            # process.
            self.find(documents.NAME)
        self.assertIn(
            f'{documents.UUID}.json', os.listdir(self.host.directories.state)
        )

    def test_not_while_its_owner_destroys_it(self) -> None:
        self.lose()
        with (
            testtools.ExpectedException(exception.DomainBusy),
            self.journal.claimed(documents.UUID, documents.NAME, 0),
        ):
            self.find(documents.NAME, patience=0)
        self.assertIsNone(self.machine.config)

    def test_its_owner_destroys_it_before(self) -> None:
        """The owner comes first, after the domain was looked for."""
        self.lose()
        claimed = Journal.claimed

        def late(
            journal: Journal, *how: Any
        ) -> contextlib.AbstractContextManager[bool]:
            journal.forget_domain(documents.UUID, TIMEOUT)
            return claimed(journal, *how)

        with fixtures.MockPatchObject(Journal, 'claimed', late):
            self.assertRaises(
                exception.DomainNotFound, self.find, documents.NAME
            )
        self.assertIsNone(self.machine.config)

    def test_snapshot_after_a_death(self) -> None:
        """A single call heals the domain and takes its snapshot."""
        self.lose()
        snapshot = self.host.snapshot()
        self.assertEqual('cold', snapshot.method)
        self.assertEqual([], self.host.differences(self.after))
