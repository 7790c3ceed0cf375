# SPDX-License-Identifier: Apache-2.0
"""The tables of the documentation."""

from __future__ import annotations

from collections.abc import Callable

from bench import tables
from bench.bars import Bar
from bench.content import MIB
from bench.figures import Figure
from bench.increments.results import Results
from bench.increments.results import Sample
from bench.increments.ways import COMPARE
from bench.increments.ways import FULL_IMAGE
from bench.increments.ways import INCREMENTS
from bench.increments.ways import NOTHING
from bench.increments.ways import ONE
from bench.increments.ways import READ
from bench.increments.ways import WAYS

_COLUMNS: tuple[tuple[str, Callable[[Sample], float], int], ...] = (
    ('Wall, s', lambda sample: sample.wall, 1),
    ('Changed, MiB', lambda sample: sample.changed / MIB, 1),
    ('Sent, MiB', lambda sample: sample.sent / MIB, 1),
    ('Longest stall, s', lambda sample: sample.stall, 2),
    ('Memory, MiB', lambda sample: sample.memory / MIB, 0),
)

# Of a ratio.
_TIMES = '×'  # noqa: RUF001


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
            *_bars(results),
            '',
            *tables.machine(results.machine),
            '',
        ]
    )


def bars(results: Results) -> list[Bar]:
    """The target figures; a ratio is that of the medians."""

    def median(
        way: str, value: Callable[[Sample], float] = lambda each: each.wall
    ) -> float | None:
        figure = results.figure(way, value)
        return None if figure is None else figure.median

    beyond = [
        sample.sent - 1.02 * sample.changed
        for way in (*INCREMENTS, COMPARE)
        for sample in results.of(way.name)
    ]
    memory = [sample.memory / MIB for sample in results.samples]
    return [
        Bar(
            'wall of an increment of 1 %, relative to a full snapshot into '
            'Glance',
            *(0.15, _TIMES),
            _ratio(median(ONE.name), median(FULL_IMAGE.name)),
        ),
        Bar(
            'most that was sent beyond 1.02 times the change',
            *(1, 'MiB'),
            _single(max(beyond) / MIB if beyond else None),
        ),
        Bar(
            'wall where nothing has changed',
            *(5, 's'),
            _single(median(NOTHING.name)),
        ),
        Bar(
            'data that were sent where nothing has changed',
            *(0, 'bytes'),
            _single(median(NOTHING.name, lambda sample: sample.sent)),
        ),
        Bar(
            "the guest's longest stall, increment of 1 %, relative to a full "
            'snapshot into Glance',
            *(1, _TIMES),
            _ratio(
                median(ONE.name, lambda sample: sample.stall),
                median(FULL_IMAGE.name, lambda sample: sample.stall),
            ),
        ),
        Bar(
            'wall of a comparison, relative to the time to read the disk',
            *(1.3, _TIMES),
            _ratio(median(COMPARE.name), median(READ)),
        ),
        Bar(
            'maximum memory of the data plane',
            *(150, 'MiB'),
            _single(max(memory) if memory else None),
        ),
    ]


def _ratio(value: float | None, other: float | None) -> Figure | None:
    return None if value is None or not other else _single(value / other)


def _single(value: float | None) -> Figure | None:
    return None if value is None else Figure(value, value, value)


def _figures(results: Results) -> list[str]:
    rows = {way.name: way.title for way in WAYS} | {READ: 'reading the disk'}
    return tables.table(
        ('', *(title for title, _value, _digits in _COLUMNS)),
        (
            (
                title,
                *(
                    tables.cell(
                        results.figure(name, value)
                        if name != READ or number == 0
                        else None,
                        digits,
                    )
                    for number, (_title, value, digits) in enumerate(_COLUMNS)
                ),
            )
            for name, title in rows.items()
        ),
        (28, 16, 14, 14, 14, 14),
    )


def _bars(results: Results) -> list[str]:
    return tables.table(
        ('Figure', 'At most', 'Found', ''),
        (
            (
                bar.name,
                f'{bar.limit:g} {bar.unit}',
                tables.cell(bar.figure, 2),
                tables.VERDICTS[bar.met],
            )
            for bar in bars(results)
        ),
        (54, 16, 16, 14),
    )
