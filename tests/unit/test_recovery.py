# SPDX-License-Identifier: Apache-2.0
"""A snapshot has died; the next one begins."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import ddt
import fixtures
import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver import recovery
from nova_snapshot_driver import volumes
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.guest import Definition
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.host import Host
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.journal import Journal
from nova_snapshot_driver.recovery import cloud
from tests import faults
from tests.unit import documents
from tests.unit import fake_cinder
from tests.unit import tables
from tests.unit.fake_glance import Answer
from tests.unit.fake_glance import unavailable
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.host import DEVICES
from tests.unit.host import TIMEOUT
from tests.unit.host import FakeHost
from tests.unit.volumes_host import VolumesHost


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
        """What a snapshot leaves behind that is killed in its copy."""
        self.journal.remember(Entry(self.guest.definition()))
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
        recovery.heal(
            guest or self.guest,
            self.journal,
            self.host.conf,
            self.host.context,
        ).check()

    def find(self, domain: str) -> Guest:
        return recovery.find_guest(
            Host(self.host.connection), self.journal, domain
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
        self.journal.remember(Entry(self.guest.definition()))
        self.heal()
        self.is_healed()

    def test_domain_that_was_defined_otherwise_meanwhile(self) -> None:
        """What Nova has defined since then is newer than the journal."""
        self.die()
        newer = documents.inactive(documents.file_disk('/new'))
        self.host.connection.defineXML(newer)
        self.heal()
        self.assertEqual(newer, self.machine.config)
        self.assertIsNone(self.journal.recall(documents.UUID))

    def test_refused_once(self) -> None:
        """What can't be healed now is healed by the next snapshot."""
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
            Entry(
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
        self.guest.detach(self.device, TIMEOUT, Cancellation())
        self.heal()
        self.is_healed()

    def test_frozen(self) -> None:
        self.guest.freeze()
        self.heal()
        self.is_healed()

    def test_saved(self) -> None:
        self.guest.detach(self.device, TIMEOUT, Cancellation())
        self.guest.freeze()
        self.guest.managed_save(TIMEOUT, Cancellation())
        self.heal()
        self.is_healed()

    def test_save_that_was_cut_short(self) -> None:
        """It would be in the way of the next undefine."""
        self.guest.detach(self.device, TIMEOUT, Cancellation())
        self.guest.managed_save(TIMEOUT, Cancellation())
        saved = self.machine.saved
        self.guest.bring_back(PowerState.RUNNING)
        self.machine.saved = saved
        self.heal()
        self.is_healed()

    def test_started_by_a_person(self) -> None:
        self.guest.detach(self.device, TIMEOUT, Cancellation())
        self.guest.freeze()
        self.guest.managed_save(TIMEOUT, Cancellation())
        self.guest.bring_back(PowerState.RUNNING)
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
        entry = Entry(self.guest.definition(), image=self.host.image)
        self.journal.remember(entry.given_back())

    def images(self) -> list[str]:
        return list(self.host.glance.images)

    def remedy_is_known(self, reason: str) -> None:
        """It is tried again; whoever reads the log may be faster."""
        entry = Entry(self.guest.definition(), image=self.host.image)
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
        # It had.
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
        self.journal.remember(
            dataclasses.replace(entry, image=self.host.image)
        )
        self.heal()
        self.is_healed()
        self.assertEqual([], self.images())
        self.assertIn('before it had given it back', self.host.log.output)

    def test_guest_is_given_back_though_glance_is_away(self) -> None:
        self.die()
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        self.journal.remember(
            dataclasses.replace(entry, image=self.host.image)
        )
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
        recovery.heal(self.guest, self.journal, self.host.conf, None).check()
        self.assertEqual([], self.host.glance.requests)
        # It is not for want of a cloud, and nobody is to name one.
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
        self.entry = dataclasses.replace(
            Entry(
                self.host.guest().definition(),
                image=self.host.image,
                volumes=self.host.volumes,
            ).given_back(),
            paused=True,
            frozen=True,
        )

    def die(self, status: str = 'queued') -> None:
        """What it leaves behind when the guest stands still."""
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
                    'metadata': {volumes.MARK: self.host.image},
                }
            )

    def heal(self) -> None:
        self.host.driver().heal(self.host.context)

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
        """It is somebody's, with all that it maps."""
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
        with fixtures.MockPatchObject(cloud, 'RECOVERY_PATIENCE', 0.1):
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
        self.entry = Entry(
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
        recovery.forget_lost(
            documents.UUID,
            documents.NAME,
            self.journal,
            self.host.conf,
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
        entry = Entry(self.guest.definition(), directories=(str(self.former),))
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
            error = self.assertRaises(exception.NotGivenBack, self.heal)
        self.assertIn(str(self.space), str(error))
        self.heal()
        self.is_healed()
        self.assertEqual([], os.listdir(self.former))

    def test_draft(self) -> None:
        draft = self.host.root / 'web-1.qcow2.0a1b2c3d.part'
        draft.touch()
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        self.journal.remember(dataclasses.replace(entry, draft=str(draft)))
        self.heal()
        self.is_healed()
        self.assertFalse(draft.exists())

    def test_draft_that_can_not_be_removed(self) -> None:
        draft = self.host.root / 'a-directory'
        draft.mkdir()
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        self.journal.remember(dataclasses.replace(entry, draft=str(draft)))
        error = self.assertRaises(exception.NotGivenBack, self.heal)
        self.assertIn(str(draft), str(error))
        self.assertEqual(
            dataclasses.replace(entry.given_back(), draft=str(draft)),
            self.journal.recall(documents.UUID),
        )


@ddt.ddt
class IndependentTest(RecoveryCase):
    """What can't be undone is in nobody's way."""

    devices = DEVICES + documents.PCI_DEVICE

    def setUp(self) -> None:
        super().setUp()
        [self.device] = self.guest.describe().host_devices
        self.die()
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        self.journal.remember(
            dataclasses.replace(
                entry,
                devices=(self.device,),
                frozen=True,
                paused=True,
                image=self.host.image,
            )
        )
        self.guest.detach(self.device, TIMEOUT, Cancellation())
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
                ('resume', 'resume', {'paused', 'frozen'}),
                ('thaw', 'fsThaw', {'frozen'}),
                ('copy', 'blockJobAbort', set()),
                ('define', 'setAutostart', {'persistent'}),
                ('device', 'attachDeviceFlags', {'devices'}),
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
            {
                name
                for name in ('paused', 'frozen', 'persistent', 'devices')
                if getattr(rest, name)
            },
        )
        self.assertEqual('persistent' in stays, bool(rest.definition.xml))
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
        """It is respected, and everything else is undone."""
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
        (outcome,) = self.host.driver().heal(self.host.context)
        self.assertEqual([], outcome.errors)
        self.assertIsNone(self.journal.recall(documents.UUID))


class UnknownJobTest(RecoveryCase):
    """No journal knows of it."""

    def test_ours(self) -> None:
        self.die()
        self.guest.define(self.defined())
        self.journal.forget(documents.UUID)
        (outcome,) = self.host.driver().heal(self.host.context)
        self.assertEqual([], outcome.errors)
        self.is_healed()

    def defined(self) -> Definition:
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        return entry.definition

    def test_libvirt_does_not_list_the_domains(self) -> None:
        """What the journal knows is undone all the same."""
        self.die()
        refused = faults.libvirt_error(
            libvirt.VIR_ERR_OPERATION_FAILED, 'refused'
        )
        with fixtures.MockPatchObject(
            type(self.host.connection), 'listAllDomains', side_effect=refused
        ):
            self.host.driver().heal(self.host.context)
        self.is_healed()

    def test_one_that_can_not_be_looked_at(self) -> None:
        self.machine.refusals['backupGetXMLDesc'] = 1
        self.assertEqual([], self.host.driver().heal(self.host.context))
        self.is_healed()

    def test_of_somebody_else(self) -> None:
        FakeDomain(self.machine).begin_copy('vda', '/backup/vda')
        self.assertEqual([], self.host.driver().heal(self.host.context))
        self.assertIn('vda', self.machine.jobs)


class RehearsalTest(RecoveryCase):
    """What would be undone; nothing is."""

    def left(self) -> list[str]:
        """Without how far a job has come, which every look moves on."""
        return [
            each
            for each in self.host.differences(self.before)
            if 'has a block job' not in each
        ]

    def rehearse(self) -> recovery.Outcome:
        (outcome,) = self.host.driver().rehearse_healing()
        return outcome

    def test_nothing_is_touched(self) -> None:
        self.die()
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        entry = dataclasses.replace(
            entry, frozen=True, image=self.host.image, draft='/gone.part'
        )
        self.journal.remember(entry)
        before = self.left()
        with faults.Interposer(self.host.connection) as interposer:
            driver = self.host.driver(interposer.connection)
            (outcome,) = driver.rehearse_healing()
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
        self.journal.remember(Entry(self.guest.definition()))
        FakeDomain(self.machine).begin_copy('vda', '/backup/vda')
        (error,) = self.rehearse().errors
        self.assertIsInstance(error, exception.ForeignBlockJob)

    def test_guest_that_is_suspended(self) -> None:
        self.journal.remember(
            Entry(
                self.guest.definition(),
                power_state=PowerState.RUNNING,
                frozen=True,
            )
        )
        self.guest.freeze()
        self.guest.managed_save(TIMEOUT, Cancellation())
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
                'nova_snapshot_driver.journal.is_locked', return_value=True
            )
        )
        self.assertEqual([], self.host.driver().rehearse_healing())


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
            # Another file descriptor of this process stands for another
            # process.
            self.find(documents.NAME)
        self.assertIn(
            f'{documents.UUID}.json', os.listdir(self.host.directories.state)
        )

    def test_snapshot_after_a_death(self) -> None:
        """One call heals the domain and takes its snapshot."""
        self.lose()
        snapshot = self.host.snapshot()
        self.assertEqual('cold', snapshot.method)
        self.assertEqual([], self.host.differences(self.after))
