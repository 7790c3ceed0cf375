# SPDX-License-Identifier: Apache-2.0
"""qcow2 with compressed clusters, written from the first byte to the last.

The compressed sizes are known after compressing, while the tables before the
data must point behind it. The tables that depend on the sizes therefore lie
behind the data, at an offset that is fixed beforehand, by a budget. The rest
of the budget is zeros.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import math
import statistics
import struct
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator
from typing import IO

from nova_snapshot_driver import exception
from nova_snapshot_driver.transfer.formats import clusters
from nova_snapshot_driver.transfer.formats import qcow2
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.clusters import Runs
from nova_snapshot_driver.transfer.formats.compression import Compressor
from nova_snapshot_driver.transfer.formats.compression import Stored
from nova_snapshot_driver.transfer.formats.content import BLOCK
from nova_snapshot_driver.transfer.formats.content import Piece
from nova_snapshot_driver.transfer.formats.content import Zeros
from nova_snapshot_driver.transfer.nbd.source import Source

#: The pairs of neighbours that are compressed beforehand, as a sample of the
#: sizes.
PAIRS = 1024

#: The standard errors that are added to an estimate. An overflow costs another
#: pass, and a larger budget costs its size.
CONFIDENCE = 3

#: The bytes of sizes that are kept in memory: those of 1 TiB of data.
SIZES_IN_MEMORY = 32 << 20

#: The encoding of a stored cluster's size.
_SIZE = struct.Struct('=H')
#: The size that marks a cluster which could not be compressed.
_PLAIN = CLUSTER - 1

_SECTOR = 512
_COMPRESSED = 1 << 62
#: The lowest bit of the number of sectors in an entry: below it is the offset.
_SECTORS_SHIFT = 62 - (CLUSTER.bit_length() - 1 - 8)


class CompressedQcow2:
    """A compressed qcow2 image of a source.

    :param runs: the clusters that hold data
    :param budget: the most clusters that the data may take; None estimates
        them from a sample
    """

    def __init__(
        self,
        source: Source,
        runs: Runs,
        compressor: Compressor,
        budget: int | None = None,
    ) -> None:
        self._source = source
        self._runs = runs
        self._compressor = compressor
        self._budget = self._guess() if budget is None else budget
        self._tables = qcow2.used_tables(runs)
        self._l1_clusters = qcow2.l1_clusters(source.size)
        others = 1 + self._l1_clusters + self._budget + self._tables.count
        self._refcount_table, self._refcount_blocks = qcow2.refcount_clusters(
            others
        )
        self.size = CLUSTER * (
            others + self._refcount_table + self._refcount_blocks
        )

    def sufficient(self) -> CompressedQcow2:
        """A copy of the image, whose budget is measured and not estimated."""
        return CompressedQcow2(
            self._source,
            self._runs,
            self._compressor,
            self._measure(),
        )

    def _measure(self) -> int:
        """The clusters that the compressed data take."""
        position = 0
        with self._compressed(self._runs) as stored_clusters:
            for stored in stored_clusters:
                _, position = _place(position, len(stored))
        return -(-position // CLUSTER)

    def _guess(self) -> int:
        """The clusters that the data take, estimated from a sample."""
        count = self._runs.count
        if count <= 2 * PAIRS:
            return self._measure()
        with self._compressed(_pairs(self._runs)) as stored_clusters:
            sizes = [len(stored) for stored in stored_clusters]
        costs = [
            _cost(first, second)
            for first, second in zip(sizes[::2], sizes[1::2], strict=True)
        ]
        cost = statistics.fmean(costs) + CONFIDENCE * _error(costs)
        return min(count, math.ceil(count * cost / CLUSTER))

    @contextlib.contextmanager
    def pieces(self) -> Iterator[Iterator[Piece]]:
        with (
            self._compressed(self._runs) as stored_clusters,
            tempfile.SpooledTemporaryFile(SIZES_IN_MEMORY) as sizes,
        ):
            yield self._in_order(stored_clusters, sizes)

    @contextlib.contextmanager
    def _compressed(
        self, spans: Iterable[tuple[int, int]]
    ) -> Iterator[Iterator[Stored]]:
        ranges = clusters.ranges(spans, self._source.size)
        with (
            self._source.read(ranges) as blocks,
            self._compressor.compressed(blocks) as compressed,
        ):
            yield itertools.chain.from_iterable(compressed)

    def _in_order(
        self, stored_clusters: Iterator[Stored], sizes: IO[bytes]
    ) -> Iterator[Piece]:
        for table in self._head():
            yield memoryview(table)
        yield from self._data(stored_clusters, sizes)
        for table in self._refcounts(sizes):
            yield memoryview(table)
        for table in self._l2_tables(sizes):
            yield memoryview(table)

    @property
    def _begin(self) -> int:
        """The first cluster of the data."""
        return 1 + self._refcount_table + self._l1_clusters

    @property
    def _end(self) -> int:
        """The end of the budget, in clusters."""
        return self._begin + self._budget

    def _head(self) -> Iterator[bytes]:
        yield qcow2.header(
            self._source.size,
            1 + self._refcount_table,
            1,
            self._refcount_table,
            self._compressor.algorithm,
        )
        yield from qcow2.pointers(self._end, self._refcount_blocks)
        yield from qcow2.l1_table(
            self._source.size, self._tables, self._end + self._refcount_blocks
        )

    def _data(
        self, stored_clusters: Iterator[Stored], sizes: IO[bytes]
    ) -> Iterator[Piece]:
        budget = self._budget * CLUSTER
        position = 0
        block = bytearray()
        for stored in stored_clusters:
            size = len(stored)
            sizes.write(_SIZE.pack(min(size, _PLAIN)))
            offset, end = _place(position, size)
            if end > budget:
                raise exception.CompressionOverflow(budget=budget)
            block += bytes(offset - position)
            block += stored
            position = end
            if len(block) >= BLOCK:
                yield memoryview(block)
                block = bytearray()
        yield memoryview(block)
        yield Zeros(budget - position)

    def _refcounts(self, sizes: IO[bytes]) -> Iterator[bytes]:
        counts = itertools.chain(
            itertools.repeat(1, self._begin),
            self._data_refcounts(sizes),
            itertools.repeat(1, self._refcount_blocks + self._tables.count),
        )
        while block := array.array(
            'H', itertools.islice(counts, qcow2.REFCOUNTS)
        ):
            yield qcow2.padded(qcow2.stored(block))

    def _data_refcounts(self, sizes: IO[bytes]) -> Iterator[int]:
        """The refcounts of the clusters of the budget.

        The refcount of a cluster is the number of data clusters in it, in
        whole or part.
        """
        index = count = 0
        for offset, size in _placed(sizes):
            if not size:
                continue
            while index < offset // CLUSTER:
                yield count
                index, count = index + 1, 0
            count += 1
            while index < (offset + size - 1) // CLUSTER:
                yield count
                index, count = index + 1, 1
        if index < self._budget:
            yield count
            yield from itertools.repeat(0, self._budget - index - 1)

    def _l2_tables(self, sizes: IO[bytes]) -> Iterator[bytes]:
        entries = (
            _entry(self._begin * CLUSTER + offset, size)
            for offset, size in _placed(sizes)
        )
        for table in qcow2.by_table(self._runs):
            values = array.array('Q', bytes(CLUSTER))
            for first, end in table:
                for index in range(first, end):
                    values[index % qcow2.ENTRIES] = next(entries)
            yield qcow2.stored(values)


def _pairs(runs: Runs) -> Iterator[tuple[int, int]]:
    """Pairs of neighbours at regular intervals, as two spans each."""
    step = runs.count // PAIRS
    ordinal = 0
    for first, end in runs:
        for index in range(first, end):
            if ordinal % step < 2 and ordinal // step < PAIRS:
                yield index, index + 1
            ordinal += 1


def _cost(first: int, second: int) -> float:
    """The cost of a cluster in bytes, by the sizes of two neighbours.

    Half a cluster is lost, on average, where a compressed cluster comes before
    one that is not.
    """
    is_lost = 0 < first < CLUSTER and second == CLUSTER
    return (first + second + is_lost * CLUSTER) / 2


def _error(costs: list[float]) -> float:
    """The standard error of the mean of a systematic sample.

    The estimate uses the differences between neighbours of the sample:
    differences between parts of the disk are in the sample by their share.
    """
    differences = sum((b - a) ** 2 for a, b in itertools.pairwise(costs))
    return math.sqrt(differences / 2 / (len(costs) - 1) / len(costs))


def _place(position: int, size: int) -> tuple[int, int]:
    """The begin and the end of a cluster of some size.

    :param position: the end of the cluster before
    """
    if size == CLUSTER:
        position += -position % CLUSTER
    return position, position + size


def _placed(sizes: IO[bytes]) -> Iterator[tuple[int, int]]:
    """The begin and the size of each cluster."""
    position = 0
    sizes.seek(0)
    while data := sizes.read(CLUSTER):
        for (stored,) in _SIZE.iter_unpack(data):
            size = CLUSTER if stored == _PLAIN else stored
            offset, position = _place(position, size)
            yield offset, size


def _entry(offset: int, size: int) -> int:
    """The entry of a cluster in an L2 table."""
    if not size:
        return 0
    if size == CLUSTER:
        return offset | qcow2.COPIED
    more_sectors = (offset + size - 1) // _SECTOR - offset // _SECTOR
    return _COMPRESSED | more_sectors << _SECTORS_SHIFT | offset
