# SPDX-License-Identifier: Apache-2.0
"""The words beneath the picture of the documentation."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Iterable

from bench import bars
from bench.results import Results
from bench.sample import GLANCE
from bench.sample import Sample
from bench.ways import BACKUP
from bench.ways import FLOOR

_FLOOR = (
    'The floor is no snapshot: a finished image, in memory, is sent by '
    "Glance's own client."
)


def floor(results: Results, subject: str) -> str:
    """Say what the floor is and, if a stream was below it, why that can be."""
    samples = results.comparison
    gain = samples.compare(
        subject, (FLOOR.name, BACKUP.name), bars.wall, operator.sub
    )
    if gain is None or gain.median <= 0:
        return _FLOOR
    stream = _cpu_of_glance(samples.of(subject, BACKUP.name))
    client = _cpu_of_glance(samples.of(subject, FLOOR.name))
    return (
        f'{_FLOOR} A stream (backup) can be below it, as Glance is what takes '
        'the time: it spent '
        f'{stream:.0f} s of CPU time on the chunks of 64 KiB of the stream, '
        f'and {client:.0f} s on those of 1 MiB of the client.'
    )


def _cpu_of_glance(samples: Iterable[Sample]) -> float:
    return statistics.median(sample.usage[GLANCE].cpu for sample in samples)
