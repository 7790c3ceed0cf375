# SPDX-License-Identifier: Apache-2.0
"""A limit of bandwidth."""

from __future__ import annotations

import time

#: The seconds of unused bandwidth that may be made up for.
BURST = 0.5


class Throttle:
    """A bucket of tokens, of which each byte takes one.

    :param rate: bytes a second; 0 is no limit
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._due = 0.0

    def take(self, size: int) -> None:
        """Wait until so many bytes may flow."""
        if not self._rate:
            return
        now = time.monotonic()
        self._due = max(self._due, now - BURST) + size / self._rate
        if self._due > now:
            time.sleep(self._due - now)
