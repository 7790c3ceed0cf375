# SPDX-License-Identifier: Apache-2.0
"""The target figures."""

from __future__ import annotations

import dataclasses
import operator

from bench.content import GIB
from bench.content import MIB
from bench.figures import Figure
from bench.results import Results
from bench.sample import Sample
from bench.subjects import BLOCK
from bench.subjects import EMPTY
from bench.subjects import EMPTY_HUGE
from bench.subjects import PAUSED
from bench.subjects import ZEROS
from bench.ways import BACKUP
from bench.ways import FLOOR
from bench.ways import UPSTREAM
from bench.ways import WAYS
from bench.ways import ZSTD

# Of a ratio.
_TIMES = '×'  # noqa: RUF001

#: The divisor in place of zero.
_LEAST = 1e-9


@dataclasses.dataclass(frozen=True)
class Bar:
    """A figure and the most it may be."""

    name: str
    limit: float
    unit: str
    #: the measured value, if there is one
    figure: Figure | None
    #: the subject
    subject: str = ''
    #: whether the limit itself is too much
    below: bool = False

    @property
    def met(self) -> bool | None:
        if self.figure is None:
            return None
        compare = operator.lt if self.below else operator.le
        return bool(compare(self.figure.median, self.limit))


def wall(sample: Sample) -> float:
    return sample.wall


def size(sample: Sample) -> float:
    return sample.size


def stall(sample: Sample) -> float:
    return sample.stall


def written(sample: Sample) -> float:
    """Bytes on the compute host, without what the guest has overwritten."""
    scratch = sample.temporary if sample.way in _WITH_SCRATCH else 0
    return max(0, sample.on_host.written - scratch)


def cpu_per_gib(sample: Sample) -> float:
    return sample.on_host.cpu / (sample.size / GIB)


def surplus(sample: Sample) -> float:
    """Temporary MiB beyond what the guest has overwritten."""
    return (sample.temporary - sample.overwritten) / MIB


def away(sample: Sample) -> float:
    return sample.away


_WITH_SCRATCH = {way.name for way in WAYS if way.has_scratch}


def bars(results: Results) -> list[Bar]:
    """All of them, for each size where that makes a difference."""
    found = []
    for subject in results.sizes:
        found += _bars_of(results, subject)
    samples = results.comparison
    memory = Figure.of(
        sample.memory / MIB
        for sample in results.samples
        if sample.way in _WITH_SCRATCH and sample.memory
    )
    return [
        *found,
        Bar(
            'size of the image, relative to upstream',
            1.02,
            _TIMES,
            samples.compare(ZEROS, (BACKUP.name, UPSTREAM.name), size, _ratio),
            ZEROS,
        ),
        Bar(
            'maximum memory of the data plane',
            150,
            'MiB',
            # No disk may need more than the limit.
            memory and dataclasses.replace(memory, median=memory.most),
            'all',
        ),
        Bar(
            'wall, beyond that of an empty disk of 1 GiB',
            2,
            's',
            _difference(
                samples.figure(EMPTY_HUGE, BACKUP.name, wall),
                samples.figure(EMPTY, BACKUP.name, wall),
            ),
            EMPTY_HUGE,
        ),
        *(
            Bar(
                'time that the guest was not in its state',
                0,
                's',
                samples.figure(subject, BACKUP.name, away),
                subject,
            )
            for subject in (PAUSED, BLOCK)
        ),
    ]


def _bars_of(results: Results, subject: str) -> list[Bar]:
    samples = results.comparison
    backup, zstd = BACKUP.name, ZSTD.name
    upstream, floor = UPSTREAM.name, FLOOR.name
    freeze = Figure.of(results.freezes)
    stalls = samples.figure(subject, backup, stall)
    return [
        Bar(
            'wall, relative to the floor',
            1.15,
            _TIMES,
            samples.compare(subject, (backup, floor), wall, _ratio),
            subject,
        ),
        Bar(
            "wall above the floor, relative to upstream's",
            0.2,
            _TIMES,
            samples.compare(
                subject, (backup, upstream, floor), wall, _ratio_above
            ),
            subject,
        ),
        Bar(
            'wall with zstd, relative to the uncompressed floor',
            1,
            _TIMES,
            samples.compare(subject, (zstd, floor), wall, _ratio),
            subject,
            below=True,
        ),
        Bar(
            'bytes written on the host, relative to upstream',
            0.02,
            _TIMES,
            samples.compare(subject, (backup, upstream), written, _ratio),
            subject,
        ),
        Bar(
            'temporary space beyond what the guest overwrote',
            64,
            'MiB',
            samples.figure(subject, backup, surplus),
            subject,
        ),
        Bar(
            "the guest's longest stall, relative to upstream",
            1,
            _TIMES,
            samples.compare(subject, (backup, upstream), stall, _ratio),
            subject,
        ),
        Bar(
            'the same, beyond the freeze and the thaw',
            0.3,
            's',
            _difference(stalls, freeze),
            subject,
        ),
        Bar(
            'CPU seconds per GiB, relative to upstream',
            1,
            _TIMES,
            samples.compare(subject, (backup, upstream), cpu_per_gib, _ratio),
            subject,
        ),
        Bar(
            'size of the image, relative to upstream',
            1.02,
            _TIMES,
            samples.compare(subject, (backup, upstream), size, _ratio),
            subject,
        ),
    ]


def _ratio(value: float, other: float) -> float:
    return value / max(other, _LEAST)


def _ratio_above(value: float, other: float, floor: float) -> float:
    return _ratio(value - floor, other - floor)


def _difference(one: Figure | None, other: Figure | None) -> Figure | None:
    if one is None or other is None:
        return None
    return Figure(
        one.median - other.median,
        one.least - other.most,
        one.most - other.least,
    )
