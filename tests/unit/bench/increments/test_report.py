# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tempfile
from pathlib import Path

import testtools

from bench.content import MIB
from bench.increments.report import bars
from bench.increments.report import report
from bench.increments.results import Results
from bench.increments.results import Sample
from bench.increments.ways import COMPARE
from bench.increments.ways import FULL_IMAGE
from bench.increments.ways import NOTHING
from bench.increments.ways import ONE
from bench.increments.ways import READ

RESULTS = Results(
    {'Processor': 'fast'},
    [
        Sample(FULL_IMAGE.name, 1, wall=40, stall=0.5),
        Sample(NOTHING.name, 1, wall=2),
        Sample(
            *(ONE.name, 1, 5.0),
            changed=40 * MIB,
            sent=42 * MIB,
            stall=0.6,
            memory=90 * MIB,
        ),
        Sample(COMPARE.name, 1, wall=13, changed=MIB, sent=MIB),
        Sample(READ, 1, wall=10),
    ],
)


class ReportTest(testtools.TestCase):
    def test_bars(self) -> None:
        """Ratios, the worst excess, and the most memory."""
        self.assertEqual(
            [
                (0.125, True),
                (1.2, False),
                (2, True),
                (0, True),
                (1.2, False),
                (1.3, True),
                (90, True),
            ],
            [
                (round(bar.figure.median, 6), bar.met)
                for bar in bars(RESULTS)
                if bar.figure is not None
            ],
        )

    def test_nothing_was_measured(self) -> None:
        found = bars(Results({}, []))
        self.assertEqual({None}, {bar.met for bar in found})

    def test_rows(self) -> None:
        lines = report(RESULTS).splitlines()
        at = lines.index(f'   * - {ONE.title}')
        self.assertEqual(
            ['5.0', '40.0', '42.0', '0.60', '90'],
            [line.removeprefix('     - ') for line in lines[at + 1 : at + 6]],
        )
        at = lines.index('   * - reading the disk')
        self.assertEqual(
            ['     - 10.0', *['     - —'] * 4], lines[at + 1 : at + 6]
        )

    def test_results_are_read_as_they_were_written(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, 'increments.json')
            RESULTS.write(path)
            self.assertEqual(RESULTS, Results.read(path))
