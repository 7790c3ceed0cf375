# SPDX-License-Identifier: Apache-2.0
"""How much of what is large is tried: all of it by ``make exhaustive``.

Elsewhere somebody waits for the result. A fuzz test tries fewer examples then,
and a table of faults some of its rows, which are drawn by lot.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from typing import TypeVar

#: Set where time does not matter.
VARIABLE = 'NOVA_SNAPSHOT_EXHAUSTIVE'

#: By which rows are drawn; ``tools/run-tests.sh`` chooses and prints it.
SEED = 'NOVA_SNAPSHOT_SEED'

#: How many times as many examples are tried by ``make exhaustive``.
FACTOR = 100

#: Of a row to be drawn.
ODDS = 1 / 4

Row = TypeVar('Row')


def is_wanted() -> bool:
    """Whether all is tried, however long it takes."""
    return bool(os.environ.get(VARIABLE))


def seed() -> str:
    """By which rows and cases are drawn."""
    return os.environ.get(SEED, '0')


def examples(ordinary: int) -> int:
    """How many examples hypothesis is to try.

    :param ordinary: where a person waits for the result
    """
    return ordinary * (FACTOR if is_wanted() else 1)


def drawn(table: Mapping[str, Row]) -> dict[str, Row]:
    """The rows of a large table that are tried.

    Each row has a lot of its own, by its name: all processes of a run draw
    alike, and no row depends on what other rows there are.
    """
    return {
        name: row
        for name, row in table.items()
        if is_wanted() or random.Random(f'{seed()} {name}').random() < ODDS
    }
