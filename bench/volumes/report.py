# SPDX-License-Identifier: Apache-2.0
"""The tables of the documentation."""

from __future__ import annotations

import operator

from bench import tables
from bench.volumes.results import Results
from bench.volumes.ways import WAYS

_ROWS = (
    ("the guest's longest stall, s", operator.attrgetter('stall')),
    ('… shortly before', operator.attrgetter('idle_stall')),
    ('stall, as the driver reports it, s', operator.attrgetter('still')),
    ('answer of nova-api, s', operator.attrgetter('answer')),
    ('wall, s', operator.attrgetter('wall')),
)
_DIGITS = 2


def report(results: Results) -> str:
    """All tables, as reStructuredText."""
    return '\n'.join(
        [
            tables.WRITTEN,
            '',
            tables.rounds(results.rounds),
            '',
            *_figures(results),
            '',
            *tables.machine(results.machine),
            '',
        ]
    )


def _figures(results: Results) -> list[str]:
    return tables.table(
        ('', *(way.title for way in WAYS)),
        (
            (
                title,
                *(
                    tables.cell(results.figure(way.name, value), _DIGITS)
                    for way in WAYS
                ),
            )
            for title, value in _ROWS
        ),
        (28, *[72 // len(WAYS)] * len(WAYS)),
    )
