# SPDX-License-Identifier: Apache-2.0
"""raw: the disk, byte by byte."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nova_snapshot_driver.transfer import clusters
from nova_snapshot_driver.transfer.clusters import Runs
from nova_snapshot_driver.transfer.content import Piece
from nova_snapshot_driver.transfer.content import Zeros
from nova_snapshot_driver.transfer.source import Source


class Raw:
    """A raw image of a source, in which what holds nothing is not read.

    :param runs: the clusters that hold something
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
        """Data, with the zeros that lie between."""
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
