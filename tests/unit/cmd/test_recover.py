# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pathlib

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.recovery import dead_snapshot
from nova_snapshot_driver.state.journal import Journal
from tests.unit import documents
from tests.unit.cmd.command import CommandLine
from tests.unit.entries import taken
from tests.unit.fake_libvirt import FakeDomain


class RecoverTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.command = self.useFixture(CommandLine())
        self.host = self.command.host
        self.before = self.host.before()

    def die(self) -> None:
        """Leave the remains of a snapshot that was killed during a freeze."""
        guest = self.host.guest()
        self.journal().remember(
            taken(guest.definition(), frozen=True, image=self.host.image)
        )
        guest.undefine()
        guest.agent.freeze()
        directory = pathlib.Path(self.host.directories.snapshots)
        space = directory / f'{documents.UUID}-x1y2z3'
        space.mkdir(parents=True)

    def journal(self) -> Journal:
        return Journal(self.host.directories.state)

    def test_nothing_to_do(self) -> None:
        self.journal()
        result = self.command.run('recover')
        self.assertEqual(0, result.status)
        self.assertIn('No snapshot that died', result.output)
        self.assertEqual([], self.host.differences(self.before))

    def test_all_is_undone(self) -> None:
        self.die()
        result = self.command.to_glance('recover')
        self.assertEqual(0, result.status, result.output + result.errors)
        self.assertIn('thaw its file systems', result.output)
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual({}, self.host.glance.images)
        # And again, for nothing.
        result = self.command.to_glance('recover', '--format', 'json')
        self.assertEqual((0, []), (result.status, result.json))

    def test_json(self) -> None:
        self.die()
        result = self.command.to_glance('recover', '--format', 'json')
        (domain,) = result.json
        self.assertEqual(documents.NAME, domain['domain'])
        self.assertEqual(documents.UUID, domain['uuid'])
        self.assertTrue(domain['recovered'])
        self.assertIn(
            {'what': 'have it defined', 'error': None}, domain['steps']
        )

    def test_dry_run(self) -> None:
        self.die()
        left = self.host.differences(self.before)
        result = self.command.to_glance('recover', '--dry-run')
        self.assertEqual(0, result.status)
        self.assertIn('thaw its file systems', result.output)
        self.assertIn('to be done', result.output)
        self.assertEqual(left, self.host.differences(self.before))
        self.assertIn(self.host.image, self.host.glance.images)

    def test_without_a_cloud(self) -> None:
        """The guest has its life back; the image stays, and is said to."""
        self.die()
        result = self.command.run('recover', '--format', 'json')
        self.assertEqual(1, result.status)
        (domain,) = result.json
        (left,) = [step for step in domain['steps'] if step['error']]
        self.assertEqual('image-left-behind', left['error']['code'])
        self.assertIn('The cloud cannot be used', left['error']['message'])
        self.assertFalse(domain['recovered'])
        self.assertEqual(
            [f'in the state directory: {documents.UUID}.json'],
            self.host.differences(self.before),
        )
        self.assertEqual(0, self.command.to_glance('recover').status)
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual({}, self.host.glance.images)

    def test_one_thing_stays(self) -> None:
        self.die()
        FakeDomain(self.host.machine).begin_copy('vda', '/backup/vda')
        result = self.command.to_glance('recover')
        self.assertEqual(1, result.status)
        self.assertIn('stays: ', result.output)
        self.assertFalse(self.host.machine.frozen)

    def test_snapshot_that_runs(self) -> None:
        self.die()
        left = self.host.differences(self.before)
        with self.journal().exclusive(documents.UUID, documents.NAME):
            result = self.command.to_glance('recover')
        self.assertEqual(0, result.status)
        self.assertEqual(left, self.host.differences(self.before))

    def test_torn_entry(self) -> None:
        self.journal()
        entry = pathlib.Path(self.host.directories.state) / 'torn.json'
        entry.write_text('{')
        # The file may have said anything, the second time too.
        for _ in range(2):
            result = self.command.run('recover', '--format', 'json')
            self.assertEqual(1, result.status)
            (found,) = result.json
            self.assertEqual('torn', found['domain'])
            (step,) = found['steps']
            self.assertEqual('state-unreadable', step['error']['code'])
        self.assertEqual(
            ['in the state directory: torn.json.unreadable'],
            self.host.differences(self.before),
        )

    def test_libvirt_lists_no_domains(self) -> None:
        """Nobody has seen what a guest has of a snapshot."""
        self.die()
        refused = exception.HypervisorError(
            domain='-', operation='list the domains', reason='no'
        )
        with fixtures.MockPatchObject(Host, 'guests', side_effect=refused):
            result = self.command.to_glance('recover', '--format', 'json')
        self.assertEqual(1, result.status)
        unseen, domain = result.json
        self.assertIsNone(unseen['domain'])
        self.assertFalse(unseen['recovered'])
        self.assertTrue(domain['recovered'])

    def test_job_that_can_not_be_looked_for(self) -> None:
        self.journal()
        refused = exception.HypervisorError(
            domain=documents.NAME, operation='describe it', reason='no'
        )
        for arguments in ((), ('--dry-run',)):
            with fixtures.MockPatchObject(
                dead_snapshot, 'is_due', side_effect=refused
            ):
                result = self.command.run('recover', *arguments)
            self.assertEqual(1, result.status)
            self.assertIn('see what a snapshot has', result.output)

    def test_libvirt_is_away(self) -> None:
        self.die()
        self.command.no_libvirt = True
        result = self.command.run('recover', '--format', 'json')
        self.assertEqual(1, result.status)
        self.assertEqual('connection-failed', result.json['error']['code'])
