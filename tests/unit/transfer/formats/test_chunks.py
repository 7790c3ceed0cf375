# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib

import hypothesis
import testtools
from hypothesis import strategies

from nova_snapshot_driver.transfer.formats import chunks
from nova_snapshot_driver.transfer.formats import leaves
from nova_snapshot_driver.transfer.formats import zeros
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.clusters import Runs
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from nova_snapshot_driver.transfer.nbd import source
from tests import exhaustive
from tests.unit.transfer import disks

SETTINGS = hypothesis.settings(
    max_examples=exhaustive.examples(200), deadline=None, database=None
)

#: Runs of clusters of a disk, of which some are of no length.
RUNS = strategies.lists(
    strategies.tuples(strategies.integers(0, 99), strategies.integers(0, 40)),
    max_size=9,
).map(lambda spans: sorted((first, first + count) for first, count in spans))


def some(spans: list[tuple[int, int]], most: int) -> Runs:
    return Runs(
        (first, min(end, most))
        for first, end in spans
        if first < min(end, most)
    )


class WithinTest(testtools.TestCase):
    @SETTINGS
    @hypothesis.given(
        wanted=RUNS, runs=RUNS, size=strategies.integers(0, 130 * CLUSTER)
    )
    def test_any(
        self,
        wanted: list[tuple[int, int]],
        runs: list[tuple[int, int]],
        size: int,
    ) -> None:
        """Each byte is in the part of its chunk, and in no other."""
        some_chunks = some(wanted, leaves.count(size))
        some_runs = some(runs, -(-size // CLUSTER))
        found = list(chunks.within(some_chunks, some_runs, size))
        indexes = [i for span in some_chunks for i in range(*span)]
        self.assertEqual(indexes, [index for index, _ in found])
        for index, parts in found:
            expected = {
                cluster
                for span in some_runs
                for cluster in range(*span)
                if cluster * CLUSTER // CHUNK == index
            }
            covered = set()
            for offset, length in parts:
                self.assertEqual(0, offset % CLUSTER)
                end = offset + length
                self.assertTrue(end % CLUSTER == 0 or end == size)
                covered |= set(range(offset // CLUSTER, -(-end // CLUSTER)))
            self.assertEqual(expected, covered)

    @SETTINGS
    @hypothesis.given(RUNS)
    def test_touched(self, runs: list[tuple[int, int]]) -> None:
        expected = {
            cluster * CLUSTER // CHUNK
            for span in runs
            for cluster in range(*span)
        }
        touched = chunks.touched(some(runs, 1 << 20))
        self.assertEqual(
            sorted(expected), [i for span in touched for i in range(*span)]
        )


class HashedTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.disks = self.useFixture(disks.Disks())

    def test_in_order_and_whole(self) -> None:
        """Data, holes, and chunks of which a part is a hole."""
        size = 9 * CHUNK + 512
        spans = [
            (0, disks.noise(CHUNK)),
            (2 * CHUNK + CLUSTER, disks.noise(CLUSTER, 1)),
            (4 * CHUNK - CLUSTER, disks.noise(3 * CHUNK, 2)),
            (9 * CHUNK, b'z' * 512),
        ]
        disk = self.disks.raw(size, spans)
        content = bytearray(size)
        for offset, data in spans:
            content[offset : offset + len(data)] = data
        with (
            source.opened(disk, disks.BOUNDS, str(self.disks.root)) as opened,
            chunks.hashed(opened, Runs([(0, 1), (2, 5), (8, 10)])) as hashed,
        ):
            seen = []
            for chunk in hashed:
                begin = chunk.offset
                expected = bytes(content[begin : begin + CHUNK])
                self.assertEqual(hashlib.sha256(expected).digest(), chunk.leaf)
                if chunk.data is None:
                    self.assertFalse(any(expected))
                else:
                    self.assertEqual(expected, chunk.data.tobytes())
                seen.append((chunk.index, chunk.data is None))
        self.assertEqual(
            [
                (0, False),
                *((2, False), (3, False), (4, False)),
                *((8, True), (9, False)),
            ],
            seen,
        )

    def test_nothing_is_left_of_a_chunk_before(self) -> None:
        """Buffers are used again, also for chunks with holes."""
        count = 2 * chunks.DEPTH
        spans = [
            (0, disks.noise(chunks.DEPTH * CHUNK)),
            *(
                (index * CHUNK + CLUSTER, b'x')
                for index in range(chunks.DEPTH, count)
            ),
        ]
        disk = self.disks.raw(count * CHUNK, spans)
        holed = bytearray(CHUNK)
        holed[CLUSTER] = ord('x')
        with (
            source.opened(disk, disks.BOUNDS, str(self.disks.root)) as opened,
            chunks.hashed(opened, Runs([(0, count)])) as hashed,
        ):
            found = [chunk.leaf for chunk in hashed]
        self.assertEqual(
            [hashlib.sha256(holed).digest()] * chunks.DEPTH,
            found[chunks.DEPTH :],
        )

    def test_broken_off(self) -> None:
        """A consumer that stops leaves no thread behind."""
        disk = self.disks.raw(40 * CHUNK, [(0, disks.noise(40 * CHUNK))])
        with (
            source.opened(disk, disks.BOUNDS, str(self.disks.root)) as opened,
            testtools.ExpectedException(KeyError),
            chunks.hashed(opened, Runs([(0, 40)])) as hashed,
        ):
            next(hashed)
            raise KeyError


class StretchesTest(testtools.TestCase):
    @SETTINGS
    @hypothesis.given(
        kinds=strategies.lists(strategies.booleans(), max_size=6),
        missing=strategies.sampled_from([0, 1, CLUSTER - 1]),
    )
    def test_any(self, kinds: list[bool], missing: int) -> None:
        data = b''.join(
            bytes(CLUSTER) if is_zero else bytes(CLUSTER - 1) + b'x'
            for is_zero in kinds
        )
        if kinds and missing:
            data = data[:-missing]
            kinds[-1] = True
        expected: list[tuple[int, int, bool]] = []
        for number, is_zero in enumerate(kinds):
            begin = number * CLUSTER
            end = min(begin + CLUSTER, len(data))
            if expected and expected[-1][2] == is_zero:
                begin = expected.pop()[0]
            expected.append((begin, end, is_zero))
        self.assertEqual(expected, list(zeros.stretches(memoryview(data))))
