# SPDX-License-Identifier: Apache-2.0
"""qcow2, written from the first byte to the last.

All tables come before the clusters: their offsets are known as soon as it is
known which clusters there are.

Source: docs/interop/qcow2.txt of QEMU
"""

from __future__ import annotations

import array
import contextlib
import struct
import sys
from collections.abc import Iterable
from collections.abc import Iterator

from nova_snapshot_driver.transfer.formats import clusters
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.clusters import Runs
from nova_snapshot_driver.transfer.formats.content import Piece
from nova_snapshot_driver.transfer.formats.content import Zeros
from nova_snapshot_driver.transfer.nbd.source import Source

#: The entries of a table that fills a cluster.
ENTRIES = CLUSTER // 8

#: The clusters that a refcount block counts, with 16 bits for each.
REFCOUNTS = CLUSTER // 2

#: The flag of an entry whose cluster is shared with nothing.
COPIED = 1 << 63

_MAGIC = b'QFI\xfb'
_HEADER = struct.Struct('>4sIQIIQIIQQIIQQQQIIB7x')

#: An extension of the header: its type, the length of its data, and the data
#: padded to a multiple of 8 bytes. An empty one ends the list.
#: Source: "Header extensions"
_BACKING_FORMAT = struct.Struct('>II8s')
_END = bytes(8)

#: The bytes of the name of a backing file: "backing_file_size".
_LONGEST_BACKING = 1023

_COMPRESSION_TYPE = 1 << 3


def header(
    size: int,
    l1: int,
    refcount_table: int,
    refcount_tables: int,
    compression: str = 'zlib',
    backing: str | None = None,
) -> bytes:
    """The cluster with the header.

    :param size: of the disk, in bytes
    :param l1: where the L1 table begins, in clusters
    :param refcount_table: where the refcount table begins, in clusters
    :param refcount_tables: how many clusters it takes
    :param compression: of the clusters that are compressed, zlib or zstd
    :param backing: the name of the backing file, a qcow2 image
    """
    zstd = compression == 'zstd'
    extensions, name = _backing(backing)
    name_offset = _HEADER.size + len(extensions) if name else 0
    fields = _HEADER.pack(
        _MAGIC,
        3,
        name_offset,
        len(name),
        CLUSTER.bit_length() - 1,
        size,
        0,  # no encryption
        tables_for(size),
        l1 * CLUSTER,
        refcount_table * CLUSTER,
        refcount_tables,
        *(0, 0),  # no snapshots
        _COMPRESSION_TYPE if zstd else 0,
        *(0, 0),  # no other features
        4,  # refcounts have 2**4 bits
        _HEADER.size,
        zstd,
    )
    return (fields + extensions + name).ljust(CLUSTER, b'\0')


def _backing(backing: str | None) -> tuple[bytes, bytes]:
    """The extensions of the header, and the name of the backing file.

    The name follows the extensions. The format is one of them: a header that
    does not give it would have QEMU guess it from the content.
    """
    if backing is None:
        return _END, b''
    name = backing.encode()
    if len(name) > _LONGEST_BACKING:
        raise ValueError(f'the name {backing} is too long for qcow2')
    return _BACKING_FORMAT.pack(0xE2792ACA, 5, b'qcow2') + _END, name


def tables_for(size: int) -> int:
    """The number of L2 tables that a full disk would need."""
    return -(-size // (CLUSTER * ENTRIES))


def used_tables(runs: Runs) -> Runs:
    """The numbers of the L2 tables that are needed."""
    return Runs((first // ENTRIES, -(-end // ENTRIES)) for first, end in runs)


def refcount_clusters(others: int) -> tuple[int, int]:
    """The clusters that the refcount table and the refcount blocks take.

    :param others: the number of all other clusters
    """
    table = blocks = 1
    while True:
        total = others + table + blocks
        needed = -(-total // REFCOUNTS)
        if needed == blocks and -(-blocks // ENTRIES) == table:
            return table, blocks
        blocks, table = needed, -(-needed // ENTRIES)


def refcounts(count: int) -> Iterator[bytes]:
    """The refcount blocks of an image that uses each of its clusters once.

    :param count: of the clusters, with those of the blocks
    """
    full, rest = divmod(count, REFCOUNTS)
    one = b'\0\1'
    block = one * REFCOUNTS
    for _ in range(full):
        yield block
    if rest:
        yield padded(one * rest)


def entries(values: Iterable[int]) -> bytes:
    """The stored form of a table."""
    return stored(array.array('Q', values))


def stored(table: array.array[int]) -> bytes:
    if sys.byteorder == 'little':
        table.byteswap()
    return table.tobytes()


def padded(data: bytes) -> bytes:
    """Data padded to the end of its last cluster."""
    return data + bytes(-len(data) % CLUSTER)


def pointers(first: int, count: int) -> Iterator[bytes]:
    """A table that points to consecutive clusters."""
    for begin in range(0, count, ENTRIES):
        end = min(begin + ENTRIES, count)
        yield padded(
            entries((first + index) * CLUSTER for index in range(begin, end))
        )


def l1_table(size: int, tables: Runs, first: int) -> Iterator[bytes]:
    """The L1 table.

    :param tables: the L2 tables that are present
    :param first: where they begin, in clusters
    """
    count = tables_for(size)
    table = array.array('Q', bytes(8 * count))
    for begin, end in tables:
        for index in range(begin, end):
            table[index] = first * CLUSTER | COPIED
            first += 1
    yield padded(stored(table))


def l1_clusters(size: int) -> int:
    return -(-tables_for(size) // ENTRIES)


class Qcow2:
    """A qcow2 image of a source, without compression.

    :param runs: the clusters that hold something
    """

    def __init__(self, source: Source, runs: Runs) -> None:
        self._source = source
        self._runs = runs
        self._tables = used_tables(runs)
        self._l1_clusters = l1_clusters(source.size)
        others = 1 + self._l1_clusters + self._tables.count + runs.count
        self._refcount_table, self._refcount_blocks = refcount_clusters(others)
        self._clusters = others + self._refcount_table + self._refcount_blocks
        self.size = self._clusters * CLUSTER

    @contextlib.contextmanager
    def pieces(self) -> Iterator[Iterator[Piece]]:
        size = self._source.size
        with self._source.read(clusters.ranges(self._runs, size)) as data:

            def in_order() -> Iterator[Piece]:
                for metadata in self._metadata():
                    yield memoryview(metadata)
                yield from data
                if self._runs.end * CLUSTER > size:
                    yield Zeros(-size % CLUSTER)

            yield in_order()

    def _metadata(self) -> Iterator[bytes]:
        refcount_blocks = 1 + self._refcount_table
        l1 = refcount_blocks + self._refcount_blocks
        l2 = l1 + self._l1_clusters
        yield header(self._source.size, l1, 1, self._refcount_table)
        yield from pointers(refcount_blocks, self._refcount_blocks)
        yield from refcounts(self._clusters)
        yield from l1_table(self._source.size, self._tables, l2)
        yield from self._l2_tables(l2 + self._tables.count)

    def _l2_tables(self, position: int) -> Iterator[bytes]:
        """
        :param position: where the data begins, in clusters
        """
        for table in by_table(self._runs):
            values = array.array('Q', bytes(CLUSTER))
            for first, end in table:
                begin = position * CLUSTER | COPIED
                position += end - first
                values[first % ENTRIES : (end - 1) % ENTRIES + 1] = (
                    array.array(
                        'Q',
                        range(begin, position * CLUSTER | COPIED, CLUSTER),
                    )
                )
            yield stored(values)


def by_table(runs: Runs) -> Iterator[list[tuple[int, int]]]:
    """Runs, split where an L2 table ends; a list for each table."""
    table: list[tuple[int, int]] = []
    for first, end in runs:
        while first < end:
            if table and table[0][0] // ENTRIES != first // ENTRIES:
                yield table
                table = []
            cut = min(end, (first // ENTRIES + 1) * ENTRIES)
            table.append((first, cut))
            first = cut
    if table:
        yield table
