# SPDX-License-Identifier: Apache-2.0
"""The outcome of each case."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from lab.directory import lab_directory
from tests.openstack.ceph.survival.cases import Case

#: The outcomes of an image.
PROVEN = 'proven'
GONE = 'gone'


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a case.

    :ivar seconds: until the guest was whole again; None where it was not
    :ivar image: what came of the image, ``PROVEN`` or ``GONE``
    :ivar miss: what does not hold; empty where all does
    """

    case: Case
    seconds: float | None = None
    image: str = ''
    miss: str = ''

    def __str__(self) -> str:
        return f'{self.case}: {self.miss or self.image}'


def note(outcome: Outcome) -> None:
    """Have it in the table."""
    with _table().open('a') as file:
        file.write(json.dumps(dataclasses.asdict(outcome)) + '\n')


def say(text: str) -> None:
    """Have a line below the table."""
    with _text().open('a') as file:
        file.write(f'{text}\n')


def begin() -> None:
    """Forget those of an earlier run."""
    for file in (_table(), _text()):
        file.unlink(missing_ok=True)


def outcomes() -> list[Outcome]:
    """The outcomes so far."""
    found = []
    for line in _lines(_table()):
        fields = json.loads(line)
        found.append(Outcome(**{**fields, 'case': Case(**fields['case'])}))
    return found


def said() -> list[str]:
    """The lines below the table."""
    return _lines(_text())


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _table() -> Path:
    return lab_directory() / 'survival.jsonl'


def _text() -> Path:
    return lab_directory() / 'survival.txt'
