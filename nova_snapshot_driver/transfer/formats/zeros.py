# SPDX-License-Identifier: Apache-2.0
"""Allocated clusters that a guest has filled with zeros.

An image need not hold them, but reading all of the disk twice to find them
would cost too much: a sector here and there says where to look. Even the
probes take time, which a few zeros would not be worth: a sample of them says
how many there are.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from collections.abc import Iterator

from nova_snapshot_driver.transfer.formats import clusters
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.clusters import Runs
from nova_snapshot_driver.transfer.nbd.source import Source

#: The clusters that a probe stands for.
REGION = 4

#: The bytes of each region that are read.
PROBE = 512

#: The probes that tell whether to look at all.
SAMPLE = 2048

#: The share of the sample that has to be zero. The zeros that are missed
#: because of it are hardly ever twice as many.
WORTHWHILE = 0.01

#: The stride of the sample, which meets all places.
_PRIME = 7919

_ZERO_CLUSTER = bytes(CLUSTER)


def without(source: Source, runs: Runs) -> Runs:
    """Runs without the clusters that are known to be zero.

    A few may be missed: that costs their size, and nothing else.
    """
    step = runs.count // SAMPLE
    if step > REGION and _share(source, runs, step) < WORTHWHILE:
        return runs
    suspects = Runs(_suspects(source, runs))
    return Runs(_difference(runs, _zero_clusters(source, suspects)))


def is_zero(data: memoryview) -> bool:
    """Whether a cluster, or a part of one, holds nothing but zeros."""
    # Most other clusters differ early, and need not be copied to be compared.
    if any(data[:16]):
        return False
    return data.tobytes() == _ZERO_CLUSTER[: len(data)]


def stretches(data: memoryview) -> Iterator[tuple[int, int, bool]]:
    """The longest runs of clusters that are all zero, or all not so.

    :param data: from the begin of a cluster on
    :returns: the begin and the end of each, and whether it is zero
    """
    begin = 0
    was_zero = False
    for offset in range(0, len(data), CLUSTER):
        is_now = is_zero(data[offset : offset + CLUSTER])
        if offset and is_now != was_zero:
            yield begin, offset, was_zero
            begin = offset
        was_zero = is_now
    if data:
        yield begin, len(data), was_zero


def _share(source: Source, runs: Runs, step: int) -> float:
    """The share of the runs that is zero, estimated from a sample."""
    # A stride by a prime: data on a disk repeats in powers of two.
    places = (
        first + ordinal * _PRIME % (end - first)
        for ordinal, (first, end) in enumerate(_regions(runs, step))
    )
    return statistics.fmean(_begin_with_zeros(source, places))


def _suspects(source: Source, runs: Runs) -> Iterator[tuple[int, int]]:
    """The regions that may hold zeros.

    A region that begins with zeros counts, and the one before, in which the
    zeros may begin.
    """
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
    """Whether each of some clusters begins with zeros."""
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
    """The parts of the runs that are not dropped. Both are in order."""
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
