# SPDX-License-Identifier: Apache-2.0
"""The results of a run, as they are kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Self

from bench.figures import Figure
from bench.volumes.ways import Way


@dataclasses.dataclass(frozen=True)
class Sample:
    """The cost of one snapshot, in seconds."""

    #: the name of its way
    way: str
    round: int
    #: from the request until the image is active, and Cinder's snapshots are
    #: available
    wall: float
    #: from the request to nova-api's answer
    answer: float
    #: the longest silence of the guest
    stall: float
    #: the longest silence of the guest before, without a snapshot
    idle_stall: float
    #: for how long the guest stood still, as the driver says; Nova's own says
    #: nothing
    still: float | None = None


@dataclasses.dataclass(frozen=True)
class Results:
    """The results of a run."""

    #: the properties of the machine, by their names
    machine: dict[str, str]
    samples: list[Sample]

    @classmethod
    def read(cls, path: Path) -> Self:
        content = json.loads(path.read_text())
        return cls(
            content['machine'],
            [Sample(**sample) for sample in content['samples']],
        )

    def write(self, path: Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=1)
        path.write_text(f'{text}\n')

    def figure(
        self, way: Way, value: Callable[[Sample], float | None]
    ) -> Figure | None:
        """The figure of a way in one value, if it was measured."""
        values = map(value, self._of(way))
        return Figure.of(value for value in values if value is not None)

    @property
    def rounds(self) -> int:
        return max((sample.round for sample in self.samples), default=0)

    def _of(self, way: Way) -> list[Sample]:
        return [sample for sample in self.samples if sample.way == way.name]
