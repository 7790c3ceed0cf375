# SPDX-License-Identifier: Apache-2.0
"""Cancellation of a running snapshot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nova_snapshot_driver import exception

#: A function that returns the error to stop with, if there is one.
Look = Callable[[], exception.SnapshotError | None]

#: How often the watched conditions are polled, in seconds.
LOOK_INTERVAL = 0.5


class Cancellation:
    """A request to stop, heard wherever the snapshot waits.

    A signal handler or another thread calls ``request()``; the thread that
    makes the snapshot meets it as ``exception.Cancelled`` at its next wait
    and nowhere else, so that an undo is never cut in two. The same holds for
    a deadline, and for what is watched.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._error: exception.SnapshotError | None = None
        self._watched: list[Look] = []
        self._next_look = 0.0

    def request(self, reason: str) -> None:
        self.stop(exception.Cancelled(reason=reason))

    def stop(self, error: exception.SnapshotError) -> None:
        """Stop the snapshot with an error in place of ``Cancelled``."""
        # The first reason counts.
        self._error = self._error or error
        self._requested.set()

    def limit(self, seconds: int) -> None:
        """Set a deadline, in seconds from now."""
        deadline = time.monotonic() + seconds

        def look() -> exception.SnapshotError | None:
            if time.monotonic() < deadline:
                return None
            return exception.DeadlineExceeded(seconds=seconds)

        self.watch(look)

    def watch(self, look: Look) -> None:
        """Poll a condition outside as well.

        :param look: called often, and must not block
        """
        self._watched.append(look)

    def check(self) -> None:
        """Raise the error that stops the snapshot, if there is one."""
        self._look()
        if self._error is not None:
            raise self._error

    def sleep(self, seconds: float) -> None:
        """Sleep, or raise as soon as there is an error to raise."""
        end = time.monotonic() + seconds
        self.check()
        while (left := end - time.monotonic()) > 0:
            self._requested.wait(min(left, LOOK_INTERVAL))
            self.check()

    def _look(self) -> None:
        now = time.monotonic()
        if self._error is not None or now < self._next_look:
            return
        self._next_look = now + LOOK_INTERVAL
        for look in self._watched:
            error = look()
            if error is not None:
                self.stop(error)
                return
