# SPDX-License-Identifier: Apache-2.0
"""Samples that were never taken."""

from __future__ import annotations

from typing import Any

from bench.content import GIB
from bench.processes import Usage
from bench.results import Results
from bench.sample import COMPUTE
from bench.sample import QEMU
from bench.sample import Sample
from bench.subjects import subject_of
from bench.ways import Way

SUBJECT = subject_of(4)


def sample(way: Way, number: int = 1, **others: Any) -> Sample:
    """A sample of an image of 1 GiB."""
    return Sample(
        **{
            'subject': SUBJECT,
            'way': way.name,
            'round': number,
            'wall': 1.0,
            'size': GIB,
            **others,
        }
    )


def used(qemu: Usage, compute: Usage) -> dict[str, Usage]:
    return {QEMU: qemu, COMPUTE: compute}


def results(*samples: Sample, freezes: tuple[float, ...] = ()) -> Results:
    return Results({}, [SUBJECT], list(freezes), list(samples))
