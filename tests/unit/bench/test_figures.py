# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import operator

import testtools

from bench.bars import wall
from bench.figures import Figure
from bench.figures import Samples
from bench.ways import BACKUP
from bench.ways import UPSTREAM
from tests.unit.bench import samples
from tests.unit.bench.samples import SUBJECT


class FigureTest(testtools.TestCase):
    def test_several(self) -> None:
        self.assertEqual(Figure(2, 1, 9), Figure.of([9, 1, 2]))

    def test_none(self) -> None:
        self.assertIsNone(Figure.of([]))


class SamplesTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.samples = Samples(
            samples.sample(way, number, wall=wall)
            for way, walls in (
                (UPSTREAM, (10, 30, 20)),
                (BACKUP, (5, 6, 10)),
            )
            for number, wall in enumerate(walls, 1)
        )

    def test_figure(self) -> None:
        self.assertEqual(
            Figure(20, 10, 30),
            self.samples.figure(SUBJECT, UPSTREAM.name, wall),
        )

    def test_of_another_subject(self) -> None:
        self.assertIsNone(self.samples.figure('other', UPSTREAM.name, wall))

    def test_compare(self) -> None:
        """The median is that of the medians, the rest is by round."""
        self.assertEqual(
            Figure(6 / 20, 6 / 30, 10 / 20),
            self.samples.compare(
                SUBJECT,
                (BACKUP.name, UPSTREAM.name),
                wall,
                operator.truediv,
            ),
        )

    def test_compare_with_what_was_not_measured(self) -> None:
        self.assertIsNone(
            self.samples.compare(
                SUBJECT, (BACKUP.name, 'other'), wall, operator.truediv
            )
        )

    def test_ways(self) -> None:
        self.assertEqual(
            [UPSTREAM.name, BACKUP.name], self.samples.ways(SUBJECT)
        )
