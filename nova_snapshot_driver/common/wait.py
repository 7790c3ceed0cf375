# SPDX-License-Identifier: Apache-2.0
"""Waits for a condition, each of which has a bound."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation

#: How often a condition is looked at, in seconds, where nothing else is said.
INTERVAL = 0.5


@dataclasses.dataclass(frozen=True)
class Limit:
    """The most seconds that something may take, and who decides on them.

    :ivar option: of ``[snapshot]``, which sets them; None where none does
    """

    seconds: float
    option: str | None = None

    @property
    def bound(self) -> str:
        """The option, in the words of an error."""
        if self.option is None:
            return 'no option changes that'
        return f'option [snapshot] {self.option}'


class Clock:
    """The time that waits are measured by."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(
        self, seconds: float, cancellation: Cancellation | None = None
    ) -> None:
        """Sleep, or raise what stops the snapshot as soon as anything does.

        :param cancellation: None in an undo, which nothing stops
        """
        if cancellation is None:
            time.sleep(seconds)
        else:
            cancellation.sleep(seconds)


#: The clock of every wait: the one thing to be replaced in a test.
CLOCK = Clock()


def until(
    condition: Callable[[], bool],
    timeout: float,
    error: exception.SnapshotError,
    *,
    interval: float = INTERVAL,
    cancellation: Cancellation | None = None,
) -> None:
    """Wait until a condition holds.

    :param timeout: seconds
    :param error: is raised when the time is over; names what was waited for,
        and the option that bounds the wait where one does
    """
    if not holds_within(
        condition, timeout, interval=interval, cancellation=cancellation
    ):
        raise error


def holds_within(
    condition: Callable[[], bool],
    timeout: float,
    *,
    interval: float = INTERVAL,
    cancellation: Cancellation | None = None,
) -> bool:
    """Wait until a condition holds, or the time is over.

    The condition is looked at once, however short the time is.

    :param timeout: seconds
    :returns: whether the condition holds
    """
    deadline = CLOCK.monotonic() + timeout
    while not condition():
        if CLOCK.monotonic() >= deadline:
            return False
        CLOCK.sleep(interval, cancellation)
    return True
