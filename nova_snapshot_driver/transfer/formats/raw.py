# SPDX-License-Identifier: Apache-2.0
"""raw: the disk, byte by byte."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nova_snapshot_driver.transfer.formats import clusters
from nova_snapshot_driver.transfer.formats.clusters import Runs
from nova_snapshot_driver.transfer.formats.content import Piece
from nova_snapshot_driver.transfer.formats.content import Zeros
from nova_snapshot_driver.transfer.nbd.source import Source


class Raw:
    """A raw image of a source; clusters without data are not read.

    :param runs: the clusters that hold data
    """

    def __init__(self, source: Source, runs: Runs) -> None:
        self._source = source
        self._runs = runs
        self.size = source.size

    @contextlib.contextmanager
    def pieces(self) -> Iterator[Iterator[Piece]]:
        ranges = clusters.ranges(self._runs, self.size)
        with self._source.read(ranges) as data:
            yield self._filled(data)

    def _filled(self, data: Iterator[memoryview]) -> Iterator[Piece]:
        """Data, with the zeros between the runs."""
        position = 0
        block = memoryview(b'')
        for offset, length in clusters.ranges(self._runs, self.size):
            if offset > position:
                yield Zeros(offset - position)
            position = offset + length
            while length:
                block = block or next(data)
                yield block[:length]
                length, block = (
                    max(0, length - len(block)),
                    block[length:],
                )
        if self.size > position:
            yield Zeros(self.size - position)
