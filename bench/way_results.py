# SPDX-License-Identifier: Apache-2.0
"""The results of a run of several ways, as they are kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import Generic
from typing import Self
from typing import TypeVar

from bench.figures import Figure


@dataclasses.dataclass(frozen=True)
class WaySample:
    """The cost of one snapshot."""

    #: the name of its way
    way: str
    round: int


S = TypeVar('S', bound=WaySample)


@dataclasses.dataclass(frozen=True)
class WayResults(Generic[S]):
    """The results of a run."""

    SAMPLE: ClassVar[type[Any]]

    #: the properties of the machine, by their names
    machine: dict[str, str]
    samples: list[S]

    @classmethod
    def read(cls, path: Path) -> Self:
        content = json.loads(path.read_text())
        return cls(
            content['machine'],
            [cls.SAMPLE(**sample) for sample in content['samples']],
        )

    def write(self, path: Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=1)
        path.write_text(f'{text}\n')

    def figure(
        self, way: str, value: Callable[[S], float | None]
    ) -> Figure | None:
        """The figure of a way in one value, if it was measured.

        :param way: its name
        """
        values = map(value, self.of(way))
        return Figure.of(value for value in values if value is not None)

    @property
    def rounds(self) -> int:
        return max((sample.round for sample in self.samples), default=0)

    def of(self, way: str) -> list[S]:
        return [sample for sample in self.samples if sample.way == way]
