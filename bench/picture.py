# SPDX-License-Identifier: Apache-2.0
"""The picture of the documentation."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

from bench import bars
from bench import captions
from bench.content import MIB
from bench.figures import Value
from bench.results import Results
from bench.ways import FLOOR
from bench.ways import WAYS

_WAYS = (*WAYS, FLOOR)
_COLOURS = ('#b0413e', '#c98a3c', '#3a6ea5', '#5b9f8b', '#999999')

_PANELS: tuple[tuple[str, Value], ...] = (
    ('from the request to the active image, s', bars.wall),
    (
        'written on the compute host, MiB',
        lambda sample: sample.on_host.written / MIB,
    ),
    ('temporary space, MiB', lambda sample: sample.temporary / MIB),
    ('CPU time on the compute host, s', lambda sample: sample.on_host.cpu),
    ("the guest's longest stall, s", bars.stall),
    ('image, MiB', lambda sample: sample.size / MIB),
)
# The panels without a bar for the floor, which is no snapshot.
_NOT_OF_FLOOR = _PANELS[1:5]

_KINDS = ('svg', 'png')


def draw(results: Results, target: Path) -> None:
    """Write the picture of the largest guest, in every kind.

    :param target: its path without the suffix
    """
    matplotlib.use('agg')
    # The salt makes the file the same for the same numbers.
    pyplot.rcParams.update({'font.size': 9, 'svg.hashsalt': target.name})
    subject = results.sizes[-1]
    figure, axes = pyplot.subplots(
        2, 3, figsize=(10, 5.6), layout='constrained', sharey=True
    )
    figure.suptitle(f'A snapshot of a guest, {subject} on a disk of 20 GiB')
    figure.supxlabel(
        textwrap.fill(captions.floor(results, subject), 132), fontsize=9
    )
    for panel, ax in zip(_PANELS, axes.flat, strict=True):
        _draw_panel(results, subject, panel, ax)
    for kind in _KINDS:
        figure.savefig(
            target.with_suffix(f'.{kind}'),
            dpi=150,
            metadata={'Date': None} if kind == 'svg' else None,
        )
    pyplot.close(figure)


def _draw_panel(
    results: Results, subject: str, panel: tuple[str, Value], ax: Any
) -> None:
    title, value = panel
    samples = results.comparison
    ax.set_title(title, loc='left', fontsize=9)
    for row, (way, colour) in enumerate(zip(_WAYS, _COLOURS, strict=True)):
        if way is FLOOR and panel in _NOT_OF_FLOOR:
            ax.annotate(' no snapshot', (0, row), va='center', color='grey')
            continue
        found = samples.figure(subject, way.name, value)
        if found is None:
            continue
        ax.barh(
            row,
            found.median,
            color=colour,
            xerr=[
                [found.median - found.least],
                [found.most - found.median],
            ],
            error_kw={'linewidth': 1},
        )
        ax.annotate(
            f' {found.median:.{_digits(found.most)}f}',
            (found.most, row),
            va='center',
        )
    ax.set_yticks(
        range(len(_WAYS)), [textwrap.fill(way.title, 26) for way in _WAYS]
    )
    ax.set_ylim(len(_WAYS) - 0.5, -0.5)
    ax.margins(x=0.2)
    ax.spines[['top', 'right']].set_visible(False)


def _digits(number: float) -> int:
    """The digits after the point that a number is worth."""
    if number < 2:
        return 2
    return 1 if number < 20 else 0
