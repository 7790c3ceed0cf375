# SPDX-License-Identifier: Apache-2.0
"""The chunks of a disk, read and hashed in the order of the disk.

Three threads share the work: one reads ahead, one hashes, and the third
consumes. Chunks that hold no data are not read.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import sys
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent import futures

from nova_snapshot_driver.transfer.formats import clusters
from nova_snapshot_driver.transfer.formats import leaves
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.clusters import Runs
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from nova_snapshot_driver.transfer.nbd.source import Source

#: The chunks that are in memory at a time.
DEPTH = 4

#: The clusters of a chunk.
CLUSTERS = CHUNK // CLUSTER

_ZEROS = memoryview(bytes(CHUNK))


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A chunk of a disk.

    :ivar data: valid until the next chunk is asked for; None where all of it
        reads as zero
    """

    index: int
    data: memoryview | None
    leaf: bytes

    @property
    def offset(self) -> int:
        return self.index * CHUNK


def everything(size: int) -> Runs:
    """All clusters of a disk."""
    return Runs.of_bytes([(0, size)] if size else [])


def touched(runs: Runs) -> Runs:
    """The runs of chunks in which runs of clusters lie."""
    return Runs(
        (first // CLUSTERS, -(-end // CLUSTERS)) for first, end in runs
    )


@contextlib.contextmanager
def hashed(source: Source, wanted: Runs) -> Iterator[Iterator[Chunk]]:
    """Read and hash chunks.

    :param wanted: runs of chunks
    :raises SourceUnreadable: while they are taken, or before
    """
    data = Runs.of_bytes(source.data())

    def pieces() -> Iterator[tuple[int, list[tuple[int, int]]]]:
        return within(wanted, data, source.size)

    with (
        source.read(piece for _, found in pieces() for piece in found) as read,
        futures.ThreadPoolExecutor(1) as hasher,
    ):
        yield _in_order(_Stream(read), pieces(), source.size, hasher)


def within(
    wanted: Runs, runs: Runs, size: int
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """The parts of each chunk that runs of clusters cover.

    :param wanted: runs of chunks
    :param size: of the disk
    :returns: the index of each chunk, and the parts as (offset, length)
    """
    ranges = clusters.ranges(runs, size)
    offset, end = _span(next(ranges, None))
    for index in (i for span in wanted for i in range(*span)):
        begin = index * CHUNK
        stop = begin + leaves.length(index, size)
        found = []
        while offset < stop:
            if begin < end:
                first = max(begin, offset)
                found.append((first, min(end, stop) - first))
            if end > stop:
                break
            offset, end = _span(next(ranges, None))
        yield index, found


def _span(found: tuple[int, int] | None) -> tuple[int, int]:
    """The begin and the end of a range; both are beyond any disk for none."""
    if found is None:
        return sys.maxsize, sys.maxsize
    offset, length = found
    return offset, offset + length


class _Stream:
    """Bytes in blocks, of which any number is taken at a time."""

    def __init__(self, blocks: Iterator[memoryview]) -> None:
        self._blocks = blocks
        self._block = memoryview(b'')

    def fill(self, target: memoryview) -> None:
        while target:
            self._block = self._block or next(self._blocks)
            size = min(len(target), len(self._block))
            target[:size] = self._block[:size]
            target, self._block = target[size:], self._block[size:]


def _in_order(
    stream: _Stream,
    pieces: Iterable[tuple[int, list[tuple[int, int]]]],
    size: int,
    hasher: futures.Executor,
) -> Iterator[Chunk]:
    """The chunks, of which some are being hashed while one is consumed."""
    buffers = [memoryview(bytearray(CHUNK)) for _ in range(DEPTH)]
    begun: collections.deque[
        tuple[int, memoryview | None, futures.Future[bytes] | None]
    ] = collections.deque()

    def oldest() -> Chunk:
        index, data, result = begun.popleft()
        if result is None:
            zeros = leaves.leaf_of_zeros(leaves.length(index, size))
            return Chunk(index, None, zeros)
        return Chunk(index, data, result.result())

    for ordinal, (index, found) in enumerate(pieces):
        if len(begun) == DEPTH:
            yield oldest()
        if not found:
            begun.append((index, None, None))
            continue
        data = buffers[ordinal % DEPTH][: leaves.length(index, size)]
        _fill(data, index * CHUNK, found, stream)
        begun.append((index, data, hasher.submit(leaves.leaf, data)))
    while begun:
        yield oldest()


def _fill(
    data: memoryview,
    begin: int,
    found: list[tuple[int, int]],
    stream: _Stream,
) -> None:
    """Have the bytes of a chunk in a buffer.

    :param begin: of the chunk
    :param found: the parts that hold data
    """
    if sum(length for _, length in found) < len(data):
        data[:] = _ZEROS[: len(data)]
    for offset, length in found:
        stream.fill(data[offset - begin : offset - begin + length])
