# SPDX-License-Identifier: Apache-2.0
"""Tests with a table: each row is a test of its own."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

import ddt

Test = TypeVar('Test', bound=Callable[..., Any])


def rows(table: Mapping[str, tuple[Any, ...]]) -> Callable[[Test], Test]:
    """Run a test of a ``ddt.ddt`` class for each row, under its name.

    :param table: the arguments of each run, by its name
    """

    def decorate(test: Test) -> Test:
        named: Test = ddt.named_data(
            *([name, *row] for name, row in table.items())
        )(test)
        return named

    return decorate
