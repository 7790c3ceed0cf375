# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import ddt
import testtools

from nova_snapshot_driver.common.way import Way
from nova_snapshot_driver.hypervisor.checkpoint_xml import UNTRACKED
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.checkpoint_xml import Tracking
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.increment import Base
from nova_snapshot_driver.snapshot.plan.increment import Increment
from nova_snapshot_driver.snapshot.plan.increment import Known
from nova_snapshot_driver.snapshot.plan.increment_planner import make_increment
from nova_snapshot_driver.snapshot.plan.model import Method
from tests.unit import tables

GIB = 1 << 30
OLD = Bitmap('vda', 'nova-snapshot-chain-old')
NEW = Bitmap('vda', 'nova-snapshot-chain-new')

QCOW2 = Disk('vda', 'file', 'qcow2', '/disk')
RAW = Disk('vda', 'file', 'raw', '/disk')

BASE = Base('monday', GIB, OLD, has_hashes=True)

#: A disk whose changes QEMU has recorded.
RECORDED = Known(
    base=BASE,
    size=GIB,
    changed=65536,
    lost=None,
    untracked=None,
    fresh=NEW,
)
FIRST = dataclasses.replace(
    RECORDED, base=None, changed=None, lost=Ground(Words.NO_BITMAP)
)
LOST = dataclasses.replace(
    RECORDED, changed=None, lost=Ground(Words.BITMAP_LOST, 'code 109')
)
REFUSED = dataclasses.replace(
    RECORDED, untracked=Ground(Words.REFUSED, 'Bitmap already exists')
)


def with_base(known: Known = RECORDED, **changes: object) -> Known:
    base = dataclasses.replace(BASE, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(known, base=base)


@ddt.ddt
class WayTest(testtools.TestCase):
    """Facts, and the way and its reason that follow from them."""

    @tables.rows(
        {
            'first': (FIRST, Way.FULL, 'it is the first one'),
            'recorded': (
                RECORDED,
                Way.BITMAP,
                'QEMU has recorded the changes',
            ),
            'grown': (
                dataclasses.replace(RECORDED, size=2 * GIB),
                Way.BITMAP,
                'QEMU has recorded the changes',
            ),
            'shrunk': (
                dataclasses.replace(RECORDED, size=GIB - 1),
                Way.FULL,
                'the disk has shrunk',
            ),
            'long': (
                with_base(is_far_up=True),
                Way.FULL,
                'no more images can be opened in time',
            ),
            'without_hashes': (
                with_base(has_hashes=False),
                Way.FULL,
                'the hashes of the last one are of no use: monday',
            ),
            'lost': (
                LOST,
                Way.COMPARE,
                'the bitmap of the last one is lost: code 109',
            ),
            'no_bitmap': (
                dataclasses.replace(LOST, lost=Ground(Words.NO_BITMAP)),
                Way.COMPARE,
                'the last one has begun no bitmap',
            ),
            'refused': (
                REFUSED,
                Way.COMPARE,
                'it is refused: Bitmap already exists',
            ),
        }
    )
    def test_of_a_running_guest(
        self, known: Known, way: Way, reason: str
    ) -> None:
        increment = make_increment(known, Method.BACKUP, QCOW2)
        self.assertEqual((way, reason), (increment.way, str(increment.reason)))
        is_full = way is Way.FULL
        self.assertEqual(is_full, increment.base is None)

    @tables.rows(
        {
            'mirror': (
                Method.MIRROR,
                QCOW2,
                'only a backup job shows recorded changes: mirror',
            ),
            'cold': (
                Method.COLD,
                QCOW2,
                'only a backup job shows recorded changes: cold',
            ),
            'raw': (
                Method.BACKUP,
                RAW,
                'no changes are recorded in its format: raw',
            ),
        }
    )
    def test_of_what_has_no_bitmaps(
        self, method: Method, disk: Disk, reason: str
    ) -> None:
        increment = make_increment(RECORDED, method, disk)
        self.assertEqual(Way.COMPARE, increment.way)
        self.assertEqual(reason, str(increment.reason))
        self.assertEqual(UNTRACKED, increment.tracking)
        self.assertEqual(
            UNTRACKED, make_increment(FIRST, method, disk).tracking
        )


@ddt.ddt
class TrackingTest(testtools.TestCase):
    """Every snapshot begins a bitmap for the next one, where it can."""

    @tables.rows(
        {
            'first': (FIRST, Tracking(None, NEW)),
            'recorded': (RECORDED, Tracking(OLD, NEW)),
            'lost': (LOST, Tracking(None, NEW)),
            'shrunk': (
                dataclasses.replace(RECORDED, size=1),
                Tracking(None, NEW),
            ),
            'refused': (REFUSED, UNTRACKED),
        }
    )
    def test_tracking(self, known: Known, tracking: Tracking) -> None:
        increment = make_increment(known, Method.BACKUP, QCOW2)
        self.assertEqual(tracking, increment.tracking)

    def test_most_bytes(self) -> None:
        def most(known: Known) -> int | None:
            return make_increment(known, Method.BACKUP, QCOW2).changed

        self.assertEqual(65536, most(RECORDED))
        self.assertIsNone(most(LOST))
        self.assertIsNone(most(FIRST))


class WordsTest(testtools.TestCase):
    def words(self, known: Known) -> str:
        increment: Increment = make_increment(known, Method.BACKUP, QCOW2)
        return str(increment)

    def test_full(self) -> None:
        self.assertEqual('full (it is the first one)', self.words(FIRST))

    def test_increment(self) -> None:
        self.assertEqual(
            'increment of monday, by bitmap (QEMU has recorded the changes)',
            self.words(RECORDED),
        )
