# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tempfile
from pathlib import Path

import testtools

from bench.volumes.report import report
from bench.volumes.results import Results
from bench.volumes.results import Sample
from bench.volumes.ways import FROZEN
from bench.volumes.ways import UPSTREAM_FROZEN
from bench.volumes.ways import Way


def sample(way: Way, number: int, stall: float, still: float | None) -> Sample:
    """A made-up sample."""
    return Sample(
        way=way.name,
        round=number,
        wall=4,
        answer=3,
        stall=stall,
        idle_stall=0.1,
        still=still,
    )


RESULTS = Results(
    {'Processor': 'fast'},
    [
        sample(UPSTREAM_FROZEN, 1, 2, None),
        sample(UPSTREAM_FROZEN, 2, 6, None),
        sample(UPSTREAM_FROZEN, 3, 3, None),
        sample(FROZEN, 1, 0.6, 0.5),
    ],
)


class ReportTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.lines = report(RESULTS).splitlines()

    def row(self, title: str) -> list[str]:
        """The cells that come after one, in the order of the ways."""
        at = self.lines.index(f'   * - {title}')
        return [
            line.removeprefix('     - ')
            for line in self.lines[at + 1 : at + 5]
        ]

    def test_figures(self) -> None:
        self.assertEqual(
            ['3.00 (2.00 … 6.00)', '—', '0.60', '—'],
            self.row("the guest's longest stall, s"),
        )

    def test_what_upstream_does_not_say(self) -> None:
        self.assertEqual(
            ['—', '—', '0.50', '—'],
            self.row('stall, as the driver reports it, s'),
        )

    def test_rounds(self) -> None:
        self.assertIn('3 rounds', self.lines[2])

    def test_machine(self) -> None:
        self.assertIn('   * - Processor', self.lines)


class ResultsTest(testtools.TestCase):
    def test_they_are_read_as_they_were_written(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, 'volumes.json')
            RESULTS.write(path)
            self.assertEqual(RESULTS, Results.read(path))
