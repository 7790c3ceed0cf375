# SPDX-License-Identifier: Apache-2.0
"""Figures of several samples, and their ratios."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from collections.abc import Iterable

from bench.sample import Sample

Value = Callable[[Sample], float]


@dataclasses.dataclass(frozen=True)
class Figure:
    """The values of several samples of one thing."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure | None:
        """A figure of some values, if there are any."""
        found = list(values)
        if not found:
            return None
        return cls(statistics.median(found), min(found), max(found))


class Samples:
    """The samples of one run."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.all = list(samples)

    def of(self, subject: str, way: str) -> list[Sample]:
        return [
            sample
            for sample in self.all
            if (sample.subject, sample.way) == (subject, way)
        ]

    def figure(self, subject: str, way: str, value: Value) -> Figure | None:
        return Figure.of(map(value, self.of(subject, way)))

    def compare(
        self,
        subject: str,
        ways: tuple[str, ...],
        value: Value,
        relation: Callable[..., float],
    ) -> Figure | None:
        """The ratio, or another relation, of several ways in one value.

        The median is that of the medians; the extremes are those of single
        rounds.

        :param relation: gets the values of the ways, in their order
        :returns: None where one of them was not measured
        """
        figures = [self.figure(subject, way, value) for way in ways]
        medians = [figure.median for figure in figures if figure is not None]
        if len(medians) < len(ways):
            return None
        by_round = [
            relation(*map(value, found))
            for found in zip(
                *(self.of(subject, way) for way in ways), strict=False
            )
        ]
        return Figure(relation(*medians), min(by_round), max(by_round))

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(sample.subject for sample in self.all))

    def ways(self, subject: str) -> list[str]:
        """The ways in which snapshots of a subject were taken."""
        return list(
            dict.fromkeys(
                sample.way for sample in self.all if sample.subject == subject
            )
        )
