# SPDX-License-Identifier: Apache-2.0
"""Each image of a chain is the disk at its instant, to the bit.

The guest writes all the time. As in ``exactness``, it is paused just before
the backup job is begun, its topmost image is copied, and it runs on when the
job is there.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any
from typing import ClassVar

import libvirt

from lab.bounded import run
from lab.bounded import wait_until
from lab.options import GuestOptions
from lab.options import Shape
from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.chain.prune import prune
from nova_snapshot_driver.chain.verify import verify
from nova_snapshot_driver.chain.worker import ChainWorker
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.naming import CHAIN_BITMAP
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.snapshot.destination.base import IncrementProof
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.state.chain import Chain
from tests import processes
from tests.functional import base
from tests.functional import meanwhile
from tests.functional.exactness import copy_of_disk

MIB = 1 << 20

#: Seconds
TIMEOUT = 120

#: MiB a second: what happens at the first progress comes long before the end.
SLOW = 4


class ChainCase(base.SnapshotTest):
    """A chain of the guest's disk, for each test its own."""

    def setUp(self) -> None:
        super().setUp()
        self.chain = self.directory / 'chain'
        self.references: dict[str, Path] = {}
        self._places = itertools.count(0, 331)

    def take(self, **options: Any) -> IncrementProof:
        """Take a snapshot that is compared with the paused disk."""
        reference = self.directory / f'reference-{len(self.references)}'

        def stop_and_copy() -> None:
            self.guest.domain.suspend()
            copy_of_disk(self.guest.disk.path, reference)

        def go_on() -> None:
            self.guest.domain.resume()
            self.scribble()

        with self.meanwhile('backupBegin', stop_and_copy) as connection:
            taken = self.take_as_it_is(
                connection, environment=meanwhile.Exported(go_on), **options
            )
        self.references[taken.name] = reference
        self.compare(reference, taken)
        return taken

    def take_as_it_is(
        self, connection: Any = None, **options: Any
    ) -> IncrementProof:
        """Take a snapshot, and see that the laws hold."""
        driver = self.driver(connection, quiesce='never', **options)
        snapshot: Snapshot = self.laws_hold(
            lambda: driver.snapshot_to_chain(
                Instance(self.guest.name), str(self.chain)
            )
        )
        [disk] = snapshot.disks
        assert disk.increment is not None
        self.assertEqual([], self.guest.domain.listAllCheckpoints())
        return disk.increment

    def compare(self, reference: Path, taken: IncrementProof) -> None:
        """See that plain ``qemu-img`` reads the same from both."""
        assert taken.file is not None
        run(
            [
                *('qemu-img', 'compare'),
                *('-f', self.guest.disk.format, '-F', 'qcow2'),
                *(reference, taken.file),
            ],
            timeout=TIMEOUT,
        )
        run(['qemu-img', 'check', '-q', taken.file], timeout=TIMEOUT)

    def scribble(self) -> None:
        """Have the guest write here and there, and discard something."""
        place = next(self._places)
        self.guest.agent_exec(
            f'dd if=/dev/urandom of=/data/scribble bs=4k count=64 seek={place}'
            ' conv=notrunc && sync && dd if=/dev/zero of=/data/gone bs=1M '
            'count=2 && sync && rm /data/gone && sync && fstrim /data',
            timeout=60,
        )

    def is_by_bitmap(self, taken: IncrementProof) -> None:
        self.assertEqual('bitmap', taken.way, taken.reason)

    def is_by_comparison(self, taken: IncrementProof, reason: str) -> None:
        self.assertEqual('compare', taken.way, taken.reason)
        self.assertIn(reason, taken.reason)

    def bitmaps(self) -> list[str]:
        """The bitmaps in the image of a guest that is shut off."""
        info = json.loads(
            run(
                ['qemu-img', 'info', '--output=json', self.guest.disk.path],
                timeout=TIMEOUT,
            )
        )
        data = info['format-specific']['data']
        return [
            bitmap['name']
            for bitmap in data.get('bitmaps', [])
            if bitmap['name'].startswith(CHAIN_BITMAP)
        ]


class IncrementsTest(ChainCase):
    options = GuestOptions('chain', Shape.CHAIN2)

    def test_full_and_five_increments(self) -> None:
        first = self.take()
        self.assertEqual(('full', None), (first.way, first.parent))
        last = first
        for _ in range(5):
            self.scribble()
            taken = self.take()
            self.is_by_bitmap(taken)
            self.assertEqual(last.name, taken.parent)
            self.assertLess(taken.written, first.written / 4)
            last = taken
        # An image stays the same whatever comes later.
        for record in self.records():
            reference = self.references[record['name']]
            run(
                [
                    *('qemu-img', 'compare', '-F', 'qcow2'),
                    *('-f', self.guest.disk.format, reference),
                    self.chain / f'{record["name"]}.qcow2',
                ],
                timeout=TIMEOUT,
            )
        self.guest.still_counts()

    def records(self) -> list[dict[str, Any]]:
        return [
            json.loads(path.read_text())
            for path in sorted(self.chain.glob('*.json'))
        ]

    def test_grown_disk(self) -> None:
        """A resize marks nothing: the new area reads as zeros at first."""
        self.take()
        size = self.guest.domain.blockInfo('vda')[0]
        self.guest.domain.blockResize(
            'vda', size + 64 * MIB, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
        )
        self.is_by_bitmap(self.take())
        self.guest.agent_exec(
            f'dd if=/dev/urandom of=/dev/vda bs=1M count=2 conv=notrunc '
            f'seek={size // MIB + 32}; sync',
            timeout=60,
        )
        self.is_by_bitmap(self.take())

    def test_failure_in_the_middle(self) -> None:
        """The old bitmap has gone on recording, and the new one is gone."""
        self.take()
        self.scribble()

        def kill(step: str, done: int, total: int) -> None:
            pid = processes.data_plane()
            if pid is not None:
                os.kill(pid, signal.SIGKILL)

        driver = self.driver(quiesce='never', bandwidth=SLOW)
        self.laws_hold(
            lambda: self.assertRaises(
                exception.TransferDied,
                driver.snapshot_to_chain,
                Instance(self.guest.name),
                str(self.chain),
                progress=kill,
            )
        )
        self.assertEqual(1, len(list(self.chain.glob('*.qcow2'))))
        self.assertEqual([], list(self.chain.glob('*.draft')))
        self.is_by_bitmap(self.take())

    def test_pruned(self) -> None:
        """The newest image stays the base of the next one."""
        for _ in range(3):
            self.take()
        settings = conf.read_settings(self.configuration()).transfer
        worker = ChainWorker(settings, silent, Cancellation())
        with Chain.open(str(self.chain)) as chain:
            prune(chain, 1, worker)
        self.is_by_bitmap(self.take())
        with Chain.open(str(self.chain)) as chain:
            findings = list(verify(chain, (), worker))
        self.assertEqual(2, len(findings))
        self.assertTrue(all(each.is_intact for each in findings))

    def test_undefine(self) -> None:
        """Nova does so at a hard reboot, and when the server is deleted."""
        self.take()
        definition = self.guest.definition()
        self.guest.domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
        self.connection.defineXML(definition)
        self.is_by_bitmap(self.take())

    def test_other_method(self) -> None:
        """A mirror shows no changes, and begins no bitmap."""
        self.take()
        mirrored = self.take_as_it_is(method='mirror')
        self.is_by_comparison(mirrored, 'mirror')
        self.is_by_comparison(self.take(), 'has begun no bitmap')
        self.is_by_bitmap(self.take())


class LifeTest(ChainCase):
    """The bitmap lives through what a guest lives through, or is missed."""

    options = GuestOptions('chain-life', Shape.QCOW2)

    def test_guest_is_saved_and_stopped(self) -> None:
        self.take()
        self.guest.domain.managedSave()
        self.guest.domain.create()
        self.guest.still_counts()
        self.is_by_bitmap(self.take())
        # As Nova's hard reboot.
        self.guest.destroy()
        self.guest.boot()
        self.is_by_bitmap(self.take())

    def test_qemu_is_killed(self) -> None:
        self.take()
        pid = processes.qemu(self.guest.domain.UUIDString())
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.guest.running, 'QEMU to be gone', 30)
        self.guest.boot()
        self.is_by_comparison(self.take(), 'is lost')
        self.is_by_bitmap(self.take())

    def test_guest_is_shut_off(self) -> None:
        """Nothing of a comparison piles up in the image."""
        self.take()
        self.guest.shutdown()
        before = self.bitmaps()
        taken = self.take_as_it_is()
        self.is_by_comparison(taken, 'cold')
        self.compare(self.guest.disk.path, taken)
        self.guest.boot()
        self.is_by_comparison(self.take(), 'has begun no bitmap')
        self.guest.shutdown()
        self.assertEqual(len(before), len(self.bitmaps()))
        self.assertNotEqual(before, self.bitmaps())
        self.guest.boot()

    def test_disk_is_replaced(self) -> None:
        """As at a rebuild: no bitmap knows the other disk."""
        self.take()
        self.guest.shutdown()
        other = self.directory / 'other'
        run(
            [
                *('qemu-img', 'convert', '-f', 'qcow2', '-O', 'qcow2'),
                *(self.guest.disk.path, other),
            ],
            timeout=TIMEOUT,
        )
        other.replace(self.guest.disk.path)
        self.guest.boot()
        self.is_by_comparison(self.take(), 'is lost')


class RawDiskTest(ChainCase):
    """QEMU records no changes of a raw disk."""

    options: ClassVar[GuestOptions] = GuestOptions('chain-raw', Shape.RAW)

    def test_compared(self) -> None:
        first = self.take()
        self.assertEqual('full', first.way)
        taken = self.take()
        self.is_by_comparison(taken, 'in its format: raw')
        self.assertLess(taken.written, first.written / 4)
