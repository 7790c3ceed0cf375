# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import testtools

from bench import report
from bench.ways import BACKUP
from bench.ways import FLOOR
from tests.unit.bench import samples


class ReportTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.lines = report.report(
            samples.results(
                samples.sample(BACKUP, 1, wall=10.04),
                samples.sample(BACKUP, 2, wall=30),
                samples.sample(BACKUP, 3, wall=20),
                samples.sample(FLOOR, 1, wall=18),
            )
        ).splitlines()

    def after(self, cell: str, count: int) -> list[str]:
        """The cells of a row that come after one."""
        [at] = [
            number
            for number, line in enumerate(self.lines)
            if line.strip(' *-') == cell
        ]
        return [
            line.removeprefix('     - ')
            for line in self.lines[at + 1 : at + 1 + count]
        ]

    def test_figures(self) -> None:
        self.assertEqual(
            ['20.0 (10.0 … 30.0)', '18.0'], self.after('wall, s', 2)
        )

    def test_what_the_floor_has_not(self) -> None:
        self.assertEqual(
            ['0.00', '—'], self.after("the guest's longest stall, s", 2)
        )

    def test_bars(self) -> None:
        self.assertEqual(
            ['1.15 ×', '1.11 (0.56 … 0.56)', 'met'],  # noqa: RUF001
            self.after('wall, relative to the floor', 3),
        )
        self.assertEqual(
            ['below 1 ×', '—', 'not measured'],  # noqa: RUF001
            self.after(
                'wall with zstd, relative to the uncompressed floor', 3
            ),
        )
