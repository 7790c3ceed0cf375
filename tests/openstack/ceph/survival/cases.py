# SPDX-License-Identifier: Apache-2.0
"""The cases of a method."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Sequence

from tests.exhaustive import seed
from tests.openstack.ceph.survival.victims import POWER

#: The value of ``NOVA_SNAPSHOT_SURVIVAL`` for all cases.
ALL = 'all'

#: How many cases there are of each path otherwise.
FEW = 1


@dataclasses.dataclass(frozen=True)
class Case:
    """Somebody is killed at a step of a path."""

    path: str
    step: str
    victim: str

    def __str__(self) -> str:
        return f'{self.path}, {self.step}, {self.victim}'


def wants_all() -> bool:
    return os.environ.get('NOVA_SNAPSHOT_SURVIVAL') == ALL


def cases_of(
    path: str, steps: Sequence[str], victims: Sequence[str]
) -> list[Case]:
    """The cases of a path, in the order in which they are tried.

    :param steps: in order
    :param victims: who takes part in it
    """
    lot = random.Random(f'{seed()} {path}')
    # Once for each path.
    cut = lot.choice(steps)
    cases = [
        Case(path, step, victim)
        for victim in victims
        for step in steps
        if victim != POWER or step == cut
    ]
    if not wants_all():
        lot.shuffle(cases)
    return cases


def is_enough(number: int) -> bool:
    """Whether so many cases of a path will do."""
    return not wants_all() and number >= FEW
