# SPDX-License-Identifier: Apache-2.0
"""The clusters of a disk that hold data."""

from __future__ import annotations

import array
from collections.abc import Iterable
from collections.abc import Iterator

#: The size of a cluster: the default of qcow2.
CLUSTER = 1 << 16

#: The most runs that are kept apart. More of them would take ever more memory:
#: where the gaps are small, the zeros in them are kept instead.
LIMIT = 1 << 20


class Runs:
    """Runs of clusters, as (first, end), in the order of the disk.

    :param spans: in order; clusters that they touch in part count as a whole

    :ivar count: the clusters of all runs together
    """

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts = array.array('Q')
        self._ends = array.array('Q')
        self._bridged = 0
        self.count = 0
        for first, end in spans:
            self._add(first, end)

    @classmethod
    def of_bytes(cls, extents: Iterable[tuple[int, int]]) -> Runs:
        """
        :param extents: (offset, end) each
        """
        return cls(
            (offset // CLUSTER, -(-end // CLUSTER)) for offset, end in extents
        )

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._ends, strict=True)

    @property
    def end(self) -> int:
        """The end of the last run."""
        return self._ends[-1] if self._ends else 0

    def _add(self, first: int, end: int) -> None:
        if self._ends and first <= self._ends[-1] + self._bridged:
            self.count += max(0, end - self._ends[-1])
            self._ends[-1] = max(end, self._ends[-1])
            return
        self._firsts.append(first)
        self._ends.append(end)
        self.count += end - first
        if len(self._ends) > LIMIT:
            self._coalesce()

    def _coalesce(self) -> None:
        runs, self._bridged = self, max(1, self._bridged)
        while len(runs._ends) > LIMIT // 2:
            self._bridged *= 2
            coalesced = Runs()
            coalesced._bridged = self._bridged
            for first, end in runs:
                coalesced._add(first, end)
            runs = coalesced
        self._firsts, self._ends = runs._firsts, runs._ends
        self.count = runs.count


def ranges(
    spans: Iterable[tuple[int, int]], size: int
) -> Iterator[tuple[int, int]]:
    """The ranges of a disk that spans of clusters take: (offset, length)."""
    for first, end in spans:
        offset = first * CLUSTER
        yield offset, min(end * CLUSTER, size) - offset
