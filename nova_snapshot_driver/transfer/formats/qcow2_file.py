# SPDX-License-Identifier: Apache-2.0
"""qcow2, written into a file while it turns out which clusters there are.

The clusters come in the order of the disk, and each L2 table follows those
that it points to. The header is written last: until then the file is no image.

Source: docs/interop/qcow2.txt of QEMU
"""

from __future__ import annotations

import array
import os

from nova_snapshot_driver.transfer.formats import qcow2
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.qcow2 import COPIED
from nova_snapshot_driver.transfer.formats.qcow2 import ENTRIES

#: The entry of a cluster that reads as zeros, whatever the backing file has:
#: bit 0 of "Standard Cluster Descriptor".
_ZERO = 1 << 0

_HEADER_CLUSTERS = 1


class Qcow2File:
    """A qcow2 image that is being written.

    :param file: an empty file
    :param size: of the disk, in bytes
    :param backing: the name of the backing file, a qcow2 image, which has the
        clusters that are not written; None for none
    """

    def __init__(self, file: int, size: int, backing: str | None) -> None:
        self._file = file
        self._size = size
        self._backing = backing
        self._l1 = array.array('Q', bytes(8 * qcow2.tables_for(size)))
        #: The L2 table that is being filled, and its place in the L1 table.
        self._l2 = array.array('Q', bytes(CLUSTER))
        self._table = 0
        #: The cluster of the file that is written next.
        self._next = _HEADER_CLUSTERS + qcow2.l1_clusters(size)

    def write(self, offset: int, data: memoryview) -> None:
        """Write clusters, of which the last of the disk may lack its end.

        :param offset: after all that came before
        :param data: no more than a chunk, whose entries are in one L2 table
        """
        self._see_table(offset)
        self._write(data)
        begin = self._next * CLUSTER | COPIED
        self._next += _clusters(len(data))
        self._l2[self._entries(offset, len(data))] = array.array(
            'Q', range(begin, self._next * CLUSTER | COPIED, CLUSTER)
        )

    def zero(self, offset: int, length: int) -> None:
        """Have clusters read as zeros, instead of what is beneath.

        :param offset: after all that came before
        :param length: no more than that of a chunk
        """
        self._see_table(offset)
        self._l2[self._entries(offset, length)] = array.array(
            'Q', [_ZERO] * _clusters(length)
        )

    def finish(self) -> int:
        """Write the tables and the header.

        :returns: the size of the file, which is on its storage then
        """
        self._end_table()
        table, blocks = qcow2.refcount_clusters(self._next)
        first = self._next
        self._write(b''.join(qcow2.pointers(first + table, blocks)))
        self._next += table
        total = self._next + blocks
        for block in qcow2.refcounts(total):
            self._write(block)
            self._next += 1
        self._write_at(_HEADER_CLUSTERS * CLUSTER, qcow2.stored(self._l1))
        self._write_at(
            0,
            qcow2.header(
                self._size,
                _HEADER_CLUSTERS,
                first,
                table,
                backing=self._backing,
            ),
        )
        # The last cluster of data may lack its end.
        os.ftruncate(self._file, total * CLUSTER)
        os.fsync(self._file)
        return total * CLUSTER

    def _see_table(self, offset: int) -> None:
        """See that the L2 table for an offset of the disk is in memory."""
        table = offset // (CLUSTER * ENTRIES)
        if table != self._table:
            self._end_table()
            self._table = table

    @staticmethod
    def _entries(offset: int, length: int) -> slice:
        """The entries of a part of the disk in its L2 table."""
        first = offset // CLUSTER % ENTRIES
        return slice(first, first + _clusters(length))

    def _end_table(self) -> None:
        if not any(self._l2):
            return
        self._l1[self._table] = self._next * CLUSTER | COPIED
        self._write(qcow2.stored(self._l2))
        self._next += 1
        self._l2 = array.array('Q', bytes(CLUSTER))

    def _write(self, data: bytes | memoryview) -> None:
        self._write_at(self._next * CLUSTER, data)

    def _write_at(self, position: int, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._file, rest, position)
            position += written
            rest = rest[written:]


def _clusters(length: int) -> int:
    return -(-length // CLUSTER)
