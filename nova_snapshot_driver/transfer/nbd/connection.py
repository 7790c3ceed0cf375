# SPDX-License-Identifier: Apache-2.0
"""A connection to an NBD server, which is believed nothing.

A guest that has broken out of its QEMU may be the server.
"""

from __future__ import annotations

import contextlib
import time
import types
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from nova_snapshot_driver.transfer.nbd.patience import Patience

#: The milliseconds of one poll, and the most seconds that it may take on a
#: busy host.
_POLL_MILLISECONDS = 100
_LONGEST_WAIT = 1.0


class Connection:
    """A handle of libnbd whose every wait is bounded.

    :param failure: the error that is raised for what fails, with its
        ``reason``
    :ivar handle: to start requests with, inside of ``translated()``
    """

    def __init__(
        self,
        module: types.ModuleType,
        bounds: Bounds,
        failure: type[exception.SnapshotError],
    ) -> None:
        self._module = module
        self._bounds = bounds
        self._failure = failure
        self._patience = Patience(bounds.timeout, bounds.least_rate)
        self.handle = module.NBD()

    def connect(self, connect: Callable[[Any], None]) -> None:
        """Have the handle connected, and wait until it is.

        :param connect: is called with the handle
        """
        with self.translated():
            connect(self.handle)
            self._wait_until(self.handle.aio_is_ready)

    def close(self) -> None:
        # Do not wait for answers to requests that are under way.
        with contextlib.suppress(self._module.Error):
            self.handle.aio_disconnect()
        # The connection closes with the last reference to the handle.
        del self.handle

    def served(self, size: int) -> None:
        """Hear that the server has answered.

        :param size: of what was asked for, in bytes
        """
        self._patience.served(size)

    def pump(self, until: Callable[[], bool]) -> None:
        """Process answers until a condition holds.

        :raises SnapshotError: the server is gone, or does not answer
        """
        with self.translated():
            self._wait_until(until)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        last = time.monotonic()
        while not condition():
            if self.handle.aio_is_dead() or self.handle.aio_is_closed():
                raise self._failure(
                    reason='the server has closed the connection'
                )
            self.handle.poll(_POLL_MILLISECONDS)
            now = time.monotonic()
            # The time in which this process was stopped does not count.
            self._patience.waited(min(now - last, _LONGEST_WAIT))
            last = now
            if self._patience.is_over():
                raise self._failure(reason=self._too_slow())

    def _too_slow(self) -> str:
        bounds = self._bounds
        least = (
            f', or less than {bounds.least_rate >> 10} KiB a second (options '
            '[snapshot] source_timeout, least_rate)'
            if bounds.least_rate
            else ' (option [snapshot] source_timeout)'
        )
        return f'no answer for {bounds.timeout} s{least}'

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Translate what libnbd says inside."""
        try:
            yield
        except self._module.Error as error:
            raise self._failure(reason=str(error)) from error
