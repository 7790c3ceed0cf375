# SPDX-License-Identifier: Apache-2.0
"""The picture of the documentation: the cost over what has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

from bench.content import MIB
from bench.increments.results import Results
from bench.increments.ways import FULL_IMAGE
from bench.increments.ways import INCREMENTS

_COLOUR = '#3a6ea5'
_GREY = '#999999'

_KINDS = ('svg', 'png')


def draw(results: Results, target: Path) -> None:
    """Write the picture, in every kind.

    :param target: its path without the suffix
    """
    matplotlib.use('agg')
    # The salt makes the file the same for the same numbers.
    pyplot.rcParams.update({'font.size': 9, 'svg.hashsalt': target.name})
    figure, axes = pyplot.subplots(
        1, 2, figsize=(10, 3.4), layout='constrained'
    )
    _draw_wall(results, axes[0])
    _draw_sent(results, axes[1])
    for ax in axes:
        ax.set_xscale('log')
        ax.set_xlabel('of the data changed, %')
        ax.set_xticks([way.percent for way in INCREMENTS])
        ax.set_xticklabels([f'{way.percent:g}' for way in INCREMENTS])
        ax.minorticks_off()
        ax.set_ylim(bottom=0)
        ax.spines[['top', 'right']].set_visible(False)
    for kind in _KINDS:
        figure.savefig(
            target.with_suffix(f'.{kind}'),
            dpi=150,
            metadata={'Date': None} if kind == 'svg' else None,
        )
    pyplot.close(figure)


def _draw_wall(results: Results, ax: Any) -> None:
    ax.set_title(
        'from the request to the active image, s', loc='left', fontsize=9
    )
    _draw_line(results, ax, lambda sample: sample.wall)
    full = results.figure(FULL_IMAGE.name, lambda sample: sample.wall)
    if full is not None:
        ax.axhline(full.median, color=_GREY, linestyle='--')
        ax.annotate(
            FULL_IMAGE.title,
            (INCREMENTS[0].percent, full.median),
            va='bottom',
            color=_GREY,
        )


def _draw_sent(results: Results, ax: Any) -> None:
    ax.set_title('sent, MiB', loc='left', fontsize=9)
    _draw_line(results, ax, lambda sample: sample.sent / MIB)


def _draw_line(results: Results, ax: Any, value: Any) -> None:
    points = [
        (way.percent, figure.median)
        for way in INCREMENTS
        if (figure := results.figure(way.name, value)) is not None
    ]
    if points:
        ax.plot(*zip(*points, strict=True), marker='o', color=_COLOUR)
