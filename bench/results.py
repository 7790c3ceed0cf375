# SPDX-License-Identifier: Apache-2.0
"""The results of a run, as they are kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Self

from bench.figures import Samples
from bench.sample import Sample


@dataclasses.dataclass(frozen=True)
class Results:
    """The results of a run."""

    #: the properties of the machine, by their names
    machine: dict[str, str]
    #: the subjects that differ in their size alone, the smallest first
    sizes: list[str]
    #: seconds that the agent took for freezing and thawing
    freezes: list[float]
    samples: list[Sample]

    @classmethod
    def read(cls, path: Path) -> Self:
        content = json.loads(path.read_text())
        samples = [Sample.from_json(one) for one in content.pop('samples')]
        return cls(samples=samples, **content)

    def write(self, path: Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=1)
        path.write_text(f'{text}\n')

    @property
    def comparison(self) -> Samples:
        return Samples(self.samples)
