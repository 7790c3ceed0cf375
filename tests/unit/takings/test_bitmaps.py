# SPDX-License-Identifier: Apache-2.0
"""The record of a snapshot decides which of two bitmaps goes."""

from __future__ import annotations

import ddt
import testtools

from nova_snapshot_driver.common.codec import FilePath
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.checkpoint_xml import Tracking
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings import registry
from nova_snapshot_driver.takings.bitmaps import NewBitmap
from nova_snapshot_driver.takings.bitmaps import OldBitmap
from tests.unit import documents
from tests.unit import tables
from tests.unit.entries import taken
from tests.unit.host import FakeHost

OLD = Bitmap('vda', 'nova-snapshot-chain-old')
NEW = Bitmap('vda', 'nova-snapshot-chain-new')


class DeadCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.before = self.host.before()
        self.machine = self.host.machine
        self.record = self.host.root / 'monday.json'
        self.machine.bitmaps['vda'] = {OLD.name: 65536, NEW.name: 0}
        self.journal = Journal(self.host.directories.state)

    def die(self) -> None:
        """A snapshot dies with all that it may have taken."""
        self.journal.remember(
            taken(
                self.host.guest().definition(),
                persistent=False,
                tracking=Tracking(OLD, NEW),
                record=str(self.record),
            )
        )

    def heal(self) -> list[str]:
        outcomes = self.host.healer().heal(self.host.context)
        self.assertEqual([], self.host.differences(self.before))
        self.assertIsNone(self.journal.recall(documents.UUID))
        return [step.what for each in outcomes for step in each.steps]


class DeadSnapshotTest(DeadCase):
    def test_before_its_record(self) -> None:
        """The next increment builds on the same snapshot as this one."""
        self.die()
        steps = self.heal()
        self.assertEqual([OLD.name], list(self.machine.bitmaps['vda']))
        self.assertEqual([f'remove the bitmap {NEW.name} of vda'], steps)

    def test_after_its_record(self) -> None:
        """The next increment builds on this one."""
        self.record.touch()
        self.die()
        steps = self.heal()
        self.assertEqual([NEW.name], list(self.machine.bitmaps['vda']))
        self.assertEqual([f'remove the bitmap {OLD.name} of vda'], steps)

    def test_before_its_bitmap(self) -> None:
        del self.machine.bitmaps['vda'][NEW.name]
        self.die()
        self.heal()
        self.assertEqual([OLD.name], list(self.machine.bitmaps['vda']))

    def test_metadata_goes_first(self) -> None:
        self.machine.checkpoints[NEW.name] = 'vda'
        self.die()
        first, second = self.heal()
        self.assertEqual('have libvirt forget its checkpoints', first)
        self.assertEqual(f'remove the bitmap {NEW.name} of vda', second)

    def test_guest_has_stopped(self) -> None:
        """QEMU alone can remove a bitmap."""
        self.machine.stop()
        self.before = self.host.before()
        self.die()
        self.assertEqual([], self.heal())
        self.assertEqual(
            {OLD.name, NEW.name}, set(self.machine.bitmaps['vda'])
        )

    def test_domain_is_gone(self) -> None:
        self.die()
        self.machine.vanish()
        self.host.healer().heal(self.host.context)
        self.assertIsNone(self.journal.recall(documents.UUID))


class MetadataTest(DeadCase):
    """The metadata of a checkpoint keeps a domain from being undefined."""

    def test_journal_knows_nothing(self) -> None:
        self.machine.checkpoints[NEW.name] = 'vda'
        self.assertEqual(['have libvirt forget its checkpoints'], self.heal())
        self.host.guest().undefine()

    def test_guest_is_shut_off(self) -> None:
        self.machine.stop()
        self.before = self.host.before()
        self.machine.checkpoints[NEW.name] = 'vda'
        self.assertEqual(['have libvirt forget its checkpoints'], self.heal())

    def test_of_somebody_else(self) -> None:
        self.machine.checkpoints['virtnbdbackup.0'] = 'vda'
        self.assertEqual([], self.heal())
        self.assertEqual({'virtnbdbackup.0': 'vda'}, self.machine.checkpoints)


@ddt.ddt
class RecordTest(testtools.TestCase):
    @tables.rows({'new': (NewBitmap,), 'old': (OldBitmap,)})
    def test_of_somebody_else(
        self, kind: type[NewBitmap] | type[OldBitmap]
    ) -> None:
        """An author of the journal has no other bitmap removed."""
        fields = kind(OLD, FilePath('/backup/monday.json')).to_json()
        self.assertEqual(
            kind(OLD, FilePath('/backup/monday.json')),
            registry.from_json(fields),
        )
        fields['bitmap']['name'] = 'virtnbdbackup.0'
        self.assertRaises(ValueError, registry.from_json, fields)
