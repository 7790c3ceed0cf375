# SPDX-License-Identifier: Apache-2.0
"""How a running snapshot is asked to stop."""

from __future__ import annotations

import threading

from nova_snapshot_driver import exception


class Cancellation:
    """A request to stop, heard wherever the snapshot waits.

    A signal handler or another thread calls ``request()``; the thread that
    makes the snapshot meets it as ``exception.Cancelled`` at its next wait
    and nowhere else, so that an undo is never cut in two.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._reason = ''

    def request(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._requested.set()

    def check(self) -> None:
        """Raise ``Cancelled`` if it was requested."""
        if self._requested.is_set():
            raise exception.Cancelled(reason=self._reason)

    def sleep(self, seconds: float) -> None:
        """Sleep, or raise ``Cancelled`` as soon as it is requested."""
        self._requested.wait(seconds)
        self.check()
