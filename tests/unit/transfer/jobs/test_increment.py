# SPDX-License-Identifier: Apache-2.0
"""Increments of real disks, as QEMU sees them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import ddt
import fixtures
import hypothesis
import testtools
from hypothesis import strategies

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from nova_snapshot_driver.transfer.jobs import increment
from nova_snapshot_driver.transfer.jobs.job import Increment
from nova_snapshot_driver.transfer.jobs.job_fields import Base
from tests import exhaustive
from tests.unit import tables
from tests.unit.transfer import disks
from tests.unit.transfer.changing_disk import WRITES
from tests.unit.transfer.changing_disk import ChangingDisk
from tests.unit.transfer.changing_disk import Write
from tests.unit.transfer.fake_parent import FakeParent

#: A table of the second level points to the clusters of as many bytes.
TABLE = CLUSTER * CLUSTER // 8


@dataclasses.dataclass(frozen=True)
class Taken:
    """A snapshot of a chain.

    :ivar said: the result of its job
    """

    name: str
    size: int
    path: pathlib.Path
    leaves: pathlib.Path
    said: dict[str, Any]

    @property
    def base(self) -> Base:
        return Base(self.size, str(self.leaves), self.said['tree'])

    @property
    def layer(self) -> Layer:
        return Layer(str(self.path), 'qcow2')


class IncrementCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.disks = self.useFixture(disks.Disks())
        self.root = self.disks.root
        self.parent = FakeParent()

    def take(
        self, name: str, view: View, size: int, over: Taken | None = None
    ) -> Taken:
        image = self.root / f'{name}.qcow2'
        own_leaves = self.root / f'{name}.leaves'
        job = Increment(
            view,
            over.base if over else None,
            over.path.name if over else None,
            str(image),
            str(own_leaves),
            str(self.root),
        )
        said = increment.run(job, disks.BOUNDS, self.parent)
        return Taken(name, size, image, own_leaves, said)

    def assert_is(self, content: bytes, taken: Taken) -> None:
        """Whether a snapshot is whole, and is that of a content."""
        reference = self.disks.raw(len(content), [(0, content)], 'reference')
        disks.assert_same(reference, taken.layer)
        self.assertEqual(taken.path.stat().st_size, taken.said['size'])
        expected = [
            hashlib.sha256(content[begin : begin + CHUNK]).digest()
            for begin in range(0, len(content), CHUNK)
        ]
        self.assertEqual(b''.join(expected), taken.leaves.read_bytes())
        tree = hashlib.sha256(
            b''.join(expected) + len(content).to_bytes(8, 'big')
        )
        self.assertEqual(tree.hexdigest(), taken.said['tree'])


@ddt.ddt
class ExactTest(IncrementCase):
    """Each snapshot of a chain is the disk at its instant."""

    @hypothesis.settings(
        max_examples=exhaustive.examples(12), deadline=None, database=None
    )
    @hypothesis.given(
        first=strategies.sampled_from(
            [512, CLUSTER, CHUNK, 2 * CHUNK + 512, 4 * CHUNK - 512]
        ),
        instants=strategies.lists(
            strategies.tuples(
                WRITES,
                # By how much it grows, before or after the writes.
                strategies.sampled_from([0, 0, 512, CLUSTER, CHUNK + 512]),
                strategies.booleans(),
                # With its bitmap, or without.
                strategies.booleans(),
            ),
            min_size=1,
            max_size=3,
        ),
    )
    def test_any_changes(
        self, first: int, instants: list[tuple[list[Write], int, bool, bool]]
    ) -> None:
        for path in self.root.iterdir():
            if path.is_file():
                path.unlink()
        disk = ChangingDisk(self.root / 'disk', disks.noise(first))
        disk.begin('b0')
        newest = self.take('s0', disk.layer, first)
        kept = [(bytes(disk.content), newest)]
        for number, (writes, growth, early, by_bitmap) in enumerate(instants):
            if early:
                disk.write(writes)
            if growth:
                disk.grow(len(disk.content) + growth)
            if not early:
                disk.write(writes)
            view: View = disk.layer
            if by_bitmap:
                view = self.disks.serve(disk.layer, f'b{number}')
            newest = self.take(
                f's{number + 1}', view, len(disk.content), newest
            )
            self.disks.kill_servers()
            disk.begin(f'b{number + 1}')
            kept.append((bytes(disk.content), newest))
        for content, taken in kept:
            self.assert_is(content, taken)

    @tables.rows({'bitmap': (True,), 'compare': (False,)})
    def test_many_tables(self, by_bitmap: bool) -> None:
        """The clusters of a disk with several L2 tables, and holes."""
        places = [0, TABLE - CLUSTER, TABLE, 5 * TABLE + CHUNK]
        size = 6 * TABLE
        disk = ChangingDisk(self.root / 'disk', bytes(CHUNK))
        disks.run('qemu-img', 'resize', '-q', disk.layer.path, str(size))

        def write(pattern: int, place: int) -> None:
            disks.run(
                *('qemu-io', '-f', 'qcow2', '-c'),
                *(f'write -P {pattern} {place} 64k', disk.layer.path),
            )

        for place in places:
            write(1, place)
        disk.begin('b')
        full = self.take('full', disk.layer, size)
        disks.assert_same(disk.layer, full.layer)
        for pattern, place in zip((0, 2, 0, 3), places, strict=True):
            write(pattern, place)
        view = self.disks.serve(disk.layer, 'b') if by_bitmap else disk.layer
        taken = self.take('next', view, size, full)
        disks.assert_same(disk.layer, taken.layer)

    @tables.rows(
        {
            f'{by}_bytes_by_{way}': (by, way == 'bitmap')
            for by in (512, CLUSTER, CHUNK, 3 * CHUNK + 512)
            for way in ('bitmap', 'compare')
        }
    )
    def test_grown(self, by: int, by_bitmap: bool) -> None:
        """The new end of a disk is not dirty before it is written to."""
        size = CHUNK + 3 * CLUSTER + 512
        disk = ChangingDisk(self.root / 'disk', disks.noise(size))
        disk.begin('b')
        full = self.take('full', disk.layer, size)
        disk.grow(size + by)
        disk.write([(size + by - 512, 512, 1), (0, CLUSTER, None)])
        view = self.disks.serve(disk.layer, 'b') if by_bitmap else disk.layer
        taken = self.take('next', view, size + by, full)
        self.assert_is(bytes(disk.content), taken)

    def test_by_plain_qemu_img(self) -> None:
        """The chain is one of bare names and formats."""
        disk = ChangingDisk(self.root / 'disk', disks.noise(CHUNK))
        full = self.take('full', disk.layer, CHUNK)
        disk.write([(0, CLUSTER, 1)])
        taken = self.take('next', disk.layer, CHUNK, full)
        moved = self.root / 'elsewhere'
        moved.mkdir()
        for path in (full.path, taken.path):
            path.rename(moved / path.name)
        chain = json.loads(
            disks.run(
                *('qemu-img', 'info', '--backing-chain', '--output=json'),
                str(moved / 'next.qcow2'),
            )
        )
        self.assertEqual(
            [('full.qcow2', 'qcow2'), (None, None)],
            [
                (
                    image.get('backing-filename'),
                    image.get('backing-filename-format'),
                )
                for image in chain
            ],
        )
        self.assertEqual(
            ['1.1', '1.1'],
            [image['format-specific']['data']['compat'] for image in chain],
        )

    def test_empty_disk(self) -> None:
        disk = self.disks.raw(0)
        full = self.take('full', disk, 0)
        self.assert_is(b'', full)
        self.assert_is(b'', self.take('next', disk, 0, full))


@ddt.ddt
class SizeTest(IncrementCase):
    """An increment holds what changed, and hardly anything else."""

    def setUp(self) -> None:
        super().setUp()
        self.size = 64 * CHUNK
        self.disk = ChangingDisk(self.root / 'disk', disks.noise(self.size))
        self.disk.begin('b')
        self.full = self.take('full', self.disk.layer, self.size)

    def view(self, by_bitmap: bool) -> View:
        if by_bitmap:
            return self.disks.serve(self.disk.layer, 'b')
        return self.disk.layer

    def test_full(self) -> None:
        self.assertEqual(self.size, self.full.said['changed'])

    @tables.rows({'bitmap': (True,), 'compare': (False,)})
    def test_nothing(self, by_bitmap: bool) -> None:
        taken = self.take('next', self.view(by_bitmap), self.size, self.full)
        self.assertEqual(0, taken.said['changed'])
        self.assertLess(taken.said['size'], 5 * CLUSTER)
        self.assert_is(bytes(self.disk.content), taken)

    @tables.rows({'bitmap': (True, CLUSTER), 'compare': (False, CHUNK)})
    def test_one_byte(self, by_bitmap: bool, changed: int) -> None:
        self.disk.write([(40 * CHUNK + 5 * CLUSTER + 77, 1, 1)])
        taken = self.take('next', self.view(by_bitmap), self.size, self.full)
        self.assertEqual(changed, taken.said['changed'])
        self.assertLess(taken.said['size'], changed + 6 * CLUSTER)
        self.assert_is(bytes(self.disk.content), taken)

    @tables.rows({'bitmap': (True,), 'compare': (False,)})
    def test_discarded(self, by_bitmap: bool) -> None:
        """Zeros over data take no room."""
        self.disk.write([(0, 32 * CHUNK, None)])
        taken = self.take('next', self.view(by_bitmap), self.size, self.full)
        self.assertEqual(32 * CHUNK, taken.said['changed'])
        self.assertLess(taken.said['size'], 6 * CLUSTER)
        self.assert_is(bytes(self.disk.content), taken)

    def test_written_again(self) -> None:
        """The bitmap marks what was written with the same content."""
        self.disk.write([(0, CLUSTER, 7)])
        taken = self.take('next', self.disk.layer, self.size, self.full)
        # Another guest, whose bitmap knows more than there is.
        disk = ChangingDisk(self.root / 'again', bytes(self.disk.content))
        disk.begin('b')
        disk.write([(0, CLUSTER, 7)])
        view = self.disks.serve(disk.layer, 'b')
        again = self.take('again', view, self.size, taken)
        self.assertEqual(0, again.said['changed'])
        self.assert_is(bytes(disk.content), again)

    def test_bitmap_is_believed(self) -> None:
        """Only what the bitmap has is read: a wrong base is a wrong image."""
        other = ChangingDisk(self.root / 'other', bytes(self.size))
        other.begin('b')
        view = self.disks.serve(other.layer, 'b')
        taken = self.take('next', view, self.size, self.full)
        self.assertEqual(0, taken.said['changed'])


@ddt.ddt
class RefusalTest(IncrementCase):
    def setUp(self) -> None:
        super().setUp()
        self.size = 2 * CHUNK
        self.disk = ChangingDisk(self.root / 'disk', disks.noise(self.size))
        self.full = self.take('full', self.disk.layer, self.size)

    def assert_refused(
        self, kind: type[exception.SnapshotError], why: str, view: View
    ) -> None:
        with testtools.ExpectedException(kind, f'.*{why}.*'):
            self.take('next', view, self.size, self.full)

    def test_bitmap_that_is_not_there(self) -> None:
        view = dataclasses.replace(
            self.disks.serve(self.disk.layer), bitmap='b'
        )
        self.assert_refused(
            exception.SourceUnreadable, 'no qemu:dirty-bitmap:b', view
        )

    def test_disk_that_has_shrunk(self) -> None:
        self.assert_refused(
            exception.SourceUnreadable, 'has shrunk', self.disks.raw(CHUNK)
        )

    @tables.rows(
        {
            'missing': (None, 'No such file'),
            'empty': (b'', 'has 0 bytes, and not 64'),
            'longer': (bytes(96), 'has 96 bytes, and not 64'),
            'changed': (bytes(64), 'the recorded hash'),
        }
    )
    def test_leaves_of_the_base(self, content: bytes | None, why: str) -> None:
        if content is None:
            self.full.leaves.unlink()
        else:
            self.full.leaves.write_bytes(content)
        self.assert_refused(exception.LeavesDamaged, why, self.disk.layer)

    def test_leaves_of_another_size(self) -> None:
        """The hash is that of the size too: a cut chunk is another disk."""
        damaged = dataclasses.replace(self.full, size=self.size - 512)
        self.full = damaged
        self.assert_refused(
            exception.LeavesDamaged, 'the recorded hash', self.disk.layer
        )

    @tables.rows({'image': ('next.qcow2',), 'leaves': ('next.leaves',)})
    def test_unwritable(self, name: str) -> None:
        (self.root / name).mkdir()
        self.assert_refused(exception.FileUnwritable, name, self.disk.layer)

    def test_full_file_system(self) -> None:
        self.useFixture(
            fixtures.MockPatch('os.pwrite', side_effect=OSError(28, 'full'))
        )
        self.assert_refused(exception.FileUnwritable, 'full', self.disk.layer)

    def test_torn_disk(self) -> None:
        raw = self.disks.raw(self.size, [(0, disks.noise(self.size))], 'raw')
        self.assert_refused(
            exception.SourceUnreadable,
            'cannot be read',
            self.disks.torn(raw, CHUNK),
        )

    def test_remains_of_an_attempt(self) -> None:
        for suffix in ('qcow2', 'leaves'):
            (self.root / f'next.{suffix}').write_bytes(b'\xff' * CHUNK)
        taken = self.take('next', self.disk.layer, self.size, self.full)
        self.assert_is(bytes(self.disk.content), taken)

    def test_unfinished_file_is_no_image(self) -> None:
        self.disk.write([(0, CLUSTER, 1)])
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.transfer.formats.qcow2.refcounts',
                side_effect=OSError(5, 'died'),
            )
        )
        self.assert_refused(exception.FileUnwritable, 'died', self.disk.layer)
        begin = (self.root / 'next.qcow2').read_bytes()[:4]
        self.assertEqual(bytes(4), begin)
        self.assertEqual(
            0o600, os.stat(self.root / 'next.qcow2').st_mode & 0o777
        )

    def test_progress(self) -> None:
        self.take('next', self.disk.layer, self.size, self.full)
        self.assertEqual(
            [(CHUNK, 2 * CHUNK), (2 * CHUNK, 2 * CHUNK)], self.parent.told[-2:]
        )
