# SPDX-License-Identifier: Apache-2.0
"""The tables of the documentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence

from bench import bars
from bench import tables
from bench.content import MIB
from bench.figures import Value
from bench.results import Results
from bench.sample import COMPUTE
from bench.sample import DATA_PLANE
from bench.sample import GLANCE
from bench.sample import LIBVIRTD
from bench.sample import QEMU
from bench.sample import QEMU_IMG
from bench.sample import Sample
from bench.ways import FLOOR
from bench.ways import UPSTREAM_COLD
from bench.ways import WAYS

_TITLES = {way.name: way.title for way in (*WAYS, UPSTREAM_COLD, FLOOR)}


@dataclasses.dataclass(frozen=True)
class _Row:
    """A figure in a table of ways."""

    title: str
    value: Value
    digits: int = 0
    #: whether the floor has it
    is_of_floor: bool = False


def _used(
    name: str, groups: Sequence[str], scale: float
) -> Callable[[Sample], float]:
    return lambda sample: sum(
        getattr(sample.usage[group], name) / scale
        for group in groups
        if group in sample.usage
    )


def _cpu(*groups: str) -> Value:
    return _used('cpu', groups, 1)


def _read(*groups: str) -> Value:
    return _used('read', groups, MIB)


def _written(*groups: str) -> Value:
    return _used('written', groups, MIB)


_ROWS = (
    _Row('wall, s', bars.wall, 1, is_of_floor=True),
    _Row("the guest's longest stall, s", bars.stall, 2),
    _Row('… shortly before', lambda sample: sample.idle_stall, 2),
    _Row('not in its state, s', bars.away, 1),
    _Row('written on the host, MiB', _written(QEMU, COMPUTE, LIBVIRTD)),
    _Row('… by QEMU', _written(QEMU)),
    _Row('… by nova-compute and its children', _written(COMPUTE)),
    _Row('… by libvirtd', _written(LIBVIRTD)),
    _Row('read on the host, MiB', _read(QEMU, COMPUTE, LIBVIRTD)),
    _Row('… by QEMU', _read(QEMU)),
    _Row('… by nova-compute and its children', _read(COMPUTE)),
    _Row('temporary space, MiB', lambda sample: sample.temporary / MIB),
    _Row(
        'overwritten by the guest, MiB',
        lambda sample: sample.overwritten / MIB,
    ),
    _Row('CPU time, s', _cpu(QEMU, COMPUTE, LIBVIRTD), 1),
    _Row('… of QEMU', _cpu(QEMU), 1),
    _Row('… of nova-compute and its children', _cpu(COMPUTE), 1),
    _Row('… of these, the data plane', _cpu(DATA_PLANE), 1),
    _Row('… of these, qemu-img', _cpu(QEMU_IMG), 1),
    _Row('… of Glance, not counted above', _cpu(GLANCE), 1, True),
    _Row('memory of the data plane, MiB', lambda sample: sample.memory / MIB),
    _Row('image, MiB', lambda sample: sample.size / MIB, is_of_floor=True),
)

_BRIEF_ROWS = tuple(
    row
    for row in _ROWS
    if row.title
    in (
        'wall, s',
        "the guest's longest stall, s",
        'not in its state, s',
        'image, MiB',
        'temporary space, MiB',
    )
)


def report(results: Results) -> str:
    """All tables, as reStructuredText."""
    return '\n'.join(
        [
            tables.WRITTEN,
            '',
            *tables.section('Target figures', _bars(results)),
            *tables.section('The machine', tables.machine(results.machine)),
            *_subjects(results),
        ]
    )


def _bars(results: Results) -> list[str]:
    return tables.table(
        ('Of', 'Figure', 'At most', 'Found', ''),
        (
            (
                bar.subject,
                bar.name,
                f'{"below " * bar.below}{bar.limit:g} {bar.unit}',
                tables.cell(bar.figure, 2),
                tables.VERDICTS[bar.met],
            )
            for bar in bars.bars(results)
        ),
        (14, 40, 14, 22, 10),
    )


def _subjects(results: Results) -> list[str]:
    samples = results.comparison
    lines = []
    for subject in samples.subjects:
        is_size = subject in results.sizes
        ways = samples.ways(subject)
        rounds = max(len(samples.of(subject, way)) for way in ways)
        lines += tables.section(
            f'A guest, {subject}' if is_size else _capitalized(subject),
            [
                tables.rounds(rounds),
                '',
                *tables.table(
                    ('', *(_TITLES[way] for way in ways)),
                    (
                        (
                            row.title,
                            *(
                                tables.cell(
                                    samples.figure(subject, way, row.value),
                                    row.digits,
                                )
                                if row.is_of_floor or way != FLOOR.name
                                else tables.NONE
                                for way in ways
                            ),
                        )
                        for row in (_ROWS if is_size else _BRIEF_ROWS)
                    ),
                    (30, *[70 // len(ways)] * len(ways)),
                ),
            ],
        )
    return lines


def _capitalized(text: str) -> str:
    return f'{text[0].upper()}{text[1:]}'
