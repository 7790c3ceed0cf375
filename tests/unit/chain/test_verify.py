# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.chain import verify
from nova_snapshot_driver.chain.verify import Finding
from nova_snapshot_driver.transfer import data_plane
from tests.unit.chain_files import DAMAGED
from tests.unit.chain_files import WORKER
from tests.unit.chain_files import ChainFiles


class VerifyTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.files = self.useFixture(ChainFiles())
        for name in ('a', 'b', 'c'):
            self.files.add(name)

    def verify(self, *names: str) -> dict[str, Finding]:
        found = verify.verify(self.files.chain, names, WORKER)
        return {finding.name: finding for finding in found}

    def intact(self, *names: str) -> dict[str, bool]:
        found = self.verify(*names)
        return {name: found[name].is_intact for name in found}

    def test_intact(self) -> None:
        self.assertEqual({'a': True, 'b': True, 'c': True}, self.intact())

    def test_some(self) -> None:
        self.assertEqual({'b': True}, self.intact('b'))

    def test_unknown(self) -> None:
        self.assertRaises(
            exception.ChainSnapshotNotFound, self.verify, 'a', 'd'
        )

    def test_damage_goes_upwards(self) -> None:
        """Snapshots after a damaged one inherit its damage."""
        self.files.damage('b')
        found = self.verify()
        self.assertTrue(found['a'].is_intact)
        for name in ('b', 'c'):
            verdict = found[name].verdict
            assert verdict is not None
            self.assertEqual(
                (1, (DAMAGED,)), (verdict.damaged, verdict.offsets)
            )

    def test_unreadable_one(self) -> None:
        """A snapshot that can't be read does not keep others from it."""
        (self.files.path / 'b.qcow2').write_bytes(b'')
        found = self.verify()
        self.assertEqual({'a': True, 'b': False, 'c': False}, self.intact())
        self.assertIsInstance(found['b'].error, exception.CommandFailed)

    def test_damaged_leaves(self) -> None:
        (self.files.path / 'b.leaves').write_bytes(bytes(96))
        found = self.verify()
        self.assertIsInstance(found['b'].error, exception.LeavesDamaged)
        self.assertTrue(found['c'].is_intact)

    def test_missing_leaves(self) -> None:
        """The record vouches for the whole disk."""
        for path in self.files.path.glob('*.leaves'):
            path.unlink()
        self.files.damage('b')
        found = self.verify()
        self.assertTrue(found['a'].is_intact)
        self.assertIsInstance(found['b'].error, exception.LeavesDamaged)
        self.assertEqual([], list(self.files.path.glob('*.leaves')))

    def test_error_of_the_host(self) -> None:
        """A host without libnbd says nothing of a snapshot."""

        def run(*_arguments: object) -> None:
            raise exception.LibnbdMissing(reason='there is none')

        self.patch(data_plane, 'run', run)
        self.assertRaises(exception.LibnbdMissing, self.verify)
