# SPDX-License-Identifier: Apache-2.0
"""The ticks of a guest: what the host sees of its stalls."""

import itertools
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from typing import Self

from lab.bounded import wait_until

# The seconds after which the reader checks whether it is to end.
_PATIENCE = 0.2


class Tick(NamedTuple):
    """A record of the witness was synced."""

    #: when the host read it, seconds of time.monotonic()
    at: float
    #: the number of the record
    number: int


class Ticks:
    """A thread that reads ticks, from the moment it is made.

    The thread needs no libvirt, only a socket of QEMU's without another
    reader. Where the guest is down it waits for the next QEMU.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ticks: list[Tick] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._read, name=f'ticks {path}', daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the socket."""
        self._closed.set()
        self._thread.join()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    @property
    def last(self) -> int:
        """The number of the last record, 0 before the first tick."""
        ticks = self._ticks
        return ticks[-1].number if ticks else 0

    def between(self, start: float, end: float) -> list[Tick]:
        """The ticks of a stretch of time.monotonic()."""
        return [tick for tick in self._ticks.copy() if start <= tick.at <= end]

    def longest_gap(self, start: float, end: float) -> float:
        """The longest silence in a stretch of time.monotonic(), seconds.

        Silence at the edges counts: without a tick it is the whole stretch.
        """
        times = [start, *(tick.at for tick in self.between(start, end)), end]
        return max(after - at for at, after in itertools.pairwise(times))

    def wait(self, count: int, timeout: float) -> None:
        """Wait for *count* more ticks.

        :raises LabTimeout: they did not come within *timeout* seconds
        """
        enough = len(self._ticks) + count
        wait_until(
            lambda: len(self._ticks) >= enough,
            f'{count} ticks at {self._path}, the last was {self.last}',
            timeout,
        )

    def _read(self) -> None:
        while not self._closed.is_set():
            with socket.socket(socket.AF_UNIX) as guest:
                guest.settimeout(_PATIENCE)
                try:
                    guest.connect(str(self._path))
                except OSError:
                    self._closed.wait(_PATIENCE)
                    continue
                self._read_from(guest)

    def _read_from(self, guest: socket.socket) -> None:
        rest = b''
        # The first line may have lost its beginning.
        skip = 1
        while not self._closed.is_set():
            try:
                data = guest.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            now = time.monotonic()
            *lines, rest = (rest + data).split(b'\n')
            self._ticks += [Tick(now, int(line)) for line in lines[skip:]]
            skip = max(0, skip - len(lines))
