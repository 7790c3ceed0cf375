# SPDX-License-Identifier: Apache-2.0
"""Tables of figures, as reStructuredText."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence

from bench.figures import Figure

#: The cell of a value that was not measured.
NONE = '—'

#: The cell that says whether a target figure is met.
VERDICTS = {True: 'met', False: '**not met**', None: 'not measured'}

#: The first line of a generated file.
WRITTEN = '.. Written by make bench: changes to it are lost.'


def section(title: str, lines: Iterable[str]) -> list[str]:
    return [title, '=' * len(title), '', *lines, '']


def table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    widths: Sequence[int],
) -> list[str]:
    lines = [
        '.. list-table::',
        '   :header-rows: 1',
        f'   :widths: {" ".join(map(str, widths))}',
        '',
    ]
    for row in (titles, *rows):
        for number, text in enumerate(row):
            mark = '-' if number else '* -'
            lines.append(f'   {mark:>3} {text}'.rstrip())
    return lines


def cell(figure: Figure | None, digits: int) -> str:
    if figure is None:
        return NONE
    median = f'{figure.median:.{digits}f}'
    if figure.least == figure.median == figure.most:
        return median
    return f'{median} ({figure.least:.{digits}f} … {figure.most:.{digits}f})'


def rounds(number: int) -> str:
    """The caption of a table."""
    return (
        f'{number} {"rounds" if number > 1 else "round"}; the median, and the '
        'least and the most where there are several.'
    )


def machine(properties: dict[str, str]) -> list[str]:
    """The table of what a run has run on."""
    return table(('Property', 'Value'), properties.items(), (25, 75))
