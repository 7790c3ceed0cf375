# SPDX-License-Identifier: Apache-2.0
"""A guest without a snapshot."""

import time

from lab.ticks import Ticks

_TICKS = 10

#: Seconds.
_IDLE = 3.0
_TICK_TIMEOUT = 60


def stall(ticks: Ticks) -> float:
    """The longest silence of a guest, in seconds."""
    ticks.wait(_TICKS, _TICK_TIMEOUT)
    began = time.monotonic()
    time.sleep(_IDLE)
    return ticks.longest_gap(began, time.monotonic())
