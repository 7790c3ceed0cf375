# SPDX-License-Identifier: Apache-2.0
"""The patience with a peer that serves or takes bytes."""

from __future__ import annotations

#: The least that an answer counts, in bytes: finding a sector on a disk may
#: take as long as reading a cluster there.
LEAST = 1 << 16


class Patience:
    """The seconds that a peer may still be waited for.

    Waiting uses them up, and bytes renew them. Time that a throttle or another
    peer costs does not count.

    :param seconds: the longest silence
    :param rate: the bytes a second that renew it as fast as waiting uses it
        up; 0 where any answer renews it
    """

    def __init__(self, seconds: float, rate: int) -> None:
        self._seconds = seconds
        self._rate = rate
        self._left = seconds

    def waited(self, seconds: float) -> None:
        self._left -= seconds

    def served(self, size: int) -> None:
        """
        :param size: of what was waited for, in bytes
        """
        renewed = (
            max(size, LEAST) / self._rate if self._rate else self._seconds
        )
        self._left = min(self._seconds, self._left + renewed)

    def is_over(self) -> bool:
        return self._left < 0
