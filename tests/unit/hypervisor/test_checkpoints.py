# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ddt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor import checkpoint_xml
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from tests.unit import tables
from tests.unit.hypervisor.guest_case import GuestCase

NAME = 'nova-snapshot-chain-0a1b2c3d'
BITMAP = Bitmap('vda', NAME)
FOREIGN = 'virtnbdbackup.3'


class CheckpointsTest(GuestCase):
    def setUp(self) -> None:
        super().setUp()
        self.checkpoints = self.guest.checkpoints
        self.machine.bitmaps['vda'] = {NAME: 1703936, FOREIGN: 65536}
        # Somebody else's, which libvirt knows of.
        self.machine.checkpoints[FOREIGN] = 'vda'

    def test_size_is_known_before(self) -> None:
        self.assertEqual(1703936, self.checkpoints.dirty_bytes(BITMAP))

    def test_libvirt_forgets_ours(self) -> None:
        self.checkpoints.define(BITMAP)
        self.assertEqual([NAME], self.checkpoints.names())
        self.checkpoints.forget()
        self.assertEqual([], self.checkpoints.names())
        self.assertEqual({FOREIGN: 'vda'}, self.machine.checkpoints)
        self.assertEqual({NAME, FOREIGN}, set(self.machine.bitmaps['vda']))

    def test_domain_is_undefined_only_then(self) -> None:
        del self.machine.checkpoints[FOREIGN]
        self.checkpoints.define(BITMAP)
        self.assertRaises(exception.HypervisorError, self.guest.undefine)
        self.checkpoints.forget()
        self.guest.undefine()

    def test_removed(self) -> None:
        self.checkpoints.remove(BITMAP)
        self.assertEqual([FOREIGN], list(self.machine.bitmaps['vda']))
        self.assertEqual([], self.checkpoints.names())

    def test_inconsistent_one_is_removed(self) -> None:
        self.machine.bitmaps['vda'][NAME] = None
        self.checkpoints.remove(BITMAP)
        self.assertNotIn(NAME, self.machine.bitmaps['vda'])

    def test_missing_one_is_removed(self) -> None:
        """Nothing is left of the attempt, either."""
        del self.machine.bitmaps['vda'][NAME]
        self.checkpoints.remove(BITMAP)
        self.assertEqual([], self.checkpoints.names())

    def test_removal_is_refused(self) -> None:
        self.machine.refusals['delete'] = 1
        self.assertRaises(
            exception.HypervisorError, self.checkpoints.remove, BITMAP
        )
        self.assertEqual([], self.checkpoints.names())
        self.assertIn(NAME, self.machine.bitmaps['vda'])


@ddt.ddt
class UnusableTest(GuestCase):
    @tables.rows({'missing': ({},), 'inconsistent': ({NAME: None},)})
    def test_lost(self, bitmaps: dict[str, int | None]) -> None:
        self.machine.bitmaps['vda'] = bitmaps
        for use in (
            self.guest.checkpoints.define,
            self.guest.checkpoints.dirty_bytes,
        ):
            error = self.assertRaises(exception.BitmapLost, use, BITMAP)
            self.assertIn('missing or broken bitmap', str(error))
        self.assertEqual([], self.guest.checkpoints.names())

    def test_guest_is_shut_off(self) -> None:
        self.machine.bitmaps['vda'] = {NAME: 0}
        self.machine.stop()
        error = self.assertRaises(
            exception.HypervisorError, self.guest.checkpoints.define, BITMAP
        )
        self.assertNotIsInstance(error, exception.BitmapLost)


class DocumentTest(testtools.TestCase):
    def test_new(self) -> None:
        self.assertEqual(
            f'<domaincheckpoint><name>{NAME}</name><disks>'
            '<disk name="vda" checkpoint="bitmap" /></disks>'
            '</domaincheckpoint>',
            checkpoint_xml.of_new(BITMAP),
        )

    def test_known(self) -> None:
        xml = checkpoint_xml.of_known(BITMAP)
        self.assertIn('<creationTime>0</creationTime>', xml)
        self.assertIn(f'bitmap="{NAME}"', xml)

    def test_no_size(self) -> None:
        self.assertRaises(
            exception.DescriptionUnreadable,
            checkpoint_xml.dirty_bytes,
            checkpoint_xml.of_new(BITMAP),
            BITMAP,
        )
