# SPDX-License-Identifier: Apache-2.0
"""Clusters that a guest has filled with zeros.

They are allocated, and yet an image need not hold them. To read all of the
disk for them, before it is read once more for the image, would cost too much:
a sector here and there says where to look. Even those take time, which a few
zeros would not be worth: a sample of them says how many there are.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from collections.abc import Iterator

from nova_snapshot_driver.transfer import clusters
from nova_snapshot_driver.transfer.clusters import CLUSTER
from nova_snapshot_driver.transfer.clusters import Runs
from nova_snapshot_driver.transfer.source import Source

#: How many clusters a probe stands for.
REGION = 4

#: What is read of each region, in bytes.
PROBE = 512

#: How many probes tell whether to look at all.
SAMPLE = 2048

#: The share of them that has to be zero. What is overlooked because of it is
#: hardly ever twice as much.
WORTHWHILE = 0.01

#: By which the sample goes from place to place, and so meets all.
_PRIME = 7919

_ZERO_CLUSTER = bytes(CLUSTER)


def without(source: Source, runs: Runs) -> Runs:
    """Runs without the clusters that are known to be zero.

    A few may be overlooked: that costs their size, and nothing else.
    """
    step = runs.count // SAMPLE
    if step > REGION and _share(source, runs, step) < WORTHWHILE:
        return runs
    suspects = Runs(_suspects(source, runs))
    return Runs(_difference(runs, _zero_clusters(source, suspects)))


def is_zero(data: memoryview) -> bool:
    """Whether a cluster, or a part of one, holds nothing but zeros."""
    # Most that are not show so at once, and are not copied to be compared.
    if any(data[:16]):
        return False
    return data.tobytes() == _ZERO_CLUSTER[: len(data)]


def _share(source: Source, runs: Runs, step: int) -> float:
    """How much of the runs is zero, as far as a sample tells."""
    # What repeats on a disk does so in powers of two.
    places = (
        first + ordinal * _PRIME % (end - first)
        for ordinal, (first, end) in enumerate(_regions(runs, step))
    )
    return statistics.fmean(_begin_with_zeros(source, places))


def _suspects(source: Source, runs: Runs) -> Iterator[tuple[int, int]]:
    """The regions that begin with zeros, and what zeros before may lie in."""
    before = (0, 0)
    probes = _begin_with_zeros(
        source, (first for first, _ in _regions(runs, REGION))
    )
    for region, is_suspect in zip(_regions(runs, REGION), probes, strict=True):
        if is_suspect:
            yield (
                before[0] if before[1] == region[0] else region[0],
                region[1],
            )
        before = region


def _begin_with_zeros(source: Source, places: Iterable[int]) -> Iterator[bool]:
    """Whether each of some clusters does."""
    offsets = (place * CLUSTER for place in places)
    probes = ((offset, min(PROBE, source.size - offset)) for offset in offsets)
    with source.read(probes) as blocks:
        for block in blocks:
            for begin in range(0, len(block), PROBE):
                yield is_zero(block[begin : begin + PROBE])


def _regions(
    runs: Iterable[tuple[int, int]], step: int
) -> Iterator[tuple[int, int]]:
    for first, end in runs:
        while first < end:
            cut = min(end, (first // step + 1) * step)
            yield first, cut
            first = cut


def _zero_clusters(
    source: Source, suspects: Runs
) -> Iterator[tuple[int, int]]:
    with source.read(clusters.ranges(suspects, source.size)) as blocks:
        data = (
            block[begin : begin + CLUSTER]
            for block in blocks
            for begin in range(0, len(block), CLUSTER)
        )
        for first, end in suspects:
            for index in range(first, end):
                if is_zero(next(data)):
                    yield index, index + 1


def _difference(
    runs: Iterable[tuple[int, int]], dropped: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """What of the runs is not dropped. Both are in order."""
    drops = iter(dropped)
    gone = next(drops, None)
    for first, end in runs:
        while gone is not None and gone[0] < end:
            if gone[0] > first:
                yield first, gone[0]
            first = max(first, gone[1])
            gone = next(drops, None)
        if first < end:
            yield first, end
