# SPDX-License-Identifier: Apache-2.0
"""No row of a large table is left out for good."""

from __future__ import annotations

import fixtures
import testtools

from tests import exhaustive

TABLE = {f'step_{number}': (number,) for number in range(200)}


class DrawnTest(testtools.TestCase):
    def drawn(
        self, seed: str, table: dict[str, tuple[int]] = TABLE
    ) -> dict[str, tuple[int]]:
        self.useFixture(fixtures.EnvironmentVariable(exhaustive.VARIABLE))
        self.useFixture(fixtures.EnvironmentVariable(exhaustive.SEED, seed))
        return exhaustive.drawn(table)

    def test_seed_draws_the_same_rows_again(self) -> None:
        found = self.drawn('7')
        self.assertEqual(found, self.drawn('7'))
        self.assertTrue(0 < len(found) < len(TABLE) // 2)

    def test_each_row_is_drawn_by_some_seed(self) -> None:
        found: set[str] = set()
        for seed in range(100):
            found |= set(self.drawn(str(seed)))
        self.assertEqual(set(TABLE), found)

    def test_new_row_changes_no_other_lot(self) -> None:
        larger = {'another': (-1,), **TABLE}
        found = self.drawn('7', larger)
        found.pop('another', None)
        self.assertEqual(self.drawn('7'), found)

    def test_all_are_wanted(self) -> None:
        self.useFixture(fixtures.EnvironmentVariable(exhaustive.VARIABLE, '1'))
        self.assertEqual(TABLE, exhaustive.drawn(TABLE))
