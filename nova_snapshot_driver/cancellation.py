# SPDX-License-Identifier: Apache-2.0
"""How a running snapshot is asked to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nova_snapshot_driver import exception

#: Returns the error to stop with, if it is to stop.
Look = Callable[[], exception.SnapshotError | None]

#: How often it is looked outside whether to stop, in seconds.
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
        """The same, with an error to be met in its place."""
        # The first reason counts.
        self._error = self._error or error
        self._requested.set()

    def limit(self, seconds: int) -> None:
        """Have everything end within a time, which begins now."""
        deadline = time.monotonic() + seconds

        def look() -> exception.SnapshotError | None:
            if time.monotonic() < deadline:
                return None
            return exception.DeadlineExceeded(seconds=seconds)

        self.watch(look)

    def watch(self, look: Look) -> None:
        """Look at something outside as well.

        :param look: called often, and not to wait
        """
        self._watched.append(look)

    def check(self) -> None:
        """Raise what stops the snapshot, if anything does."""
        self._look()
        if self._error is not None:
            raise self._error

    def sleep(self, seconds: float) -> None:
        """Sleep, or raise as soon as there is something to raise."""
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
