# SPDX-License-Identifier: Apache-2.0
"""Reading of runs, ahead of their consumer."""

from __future__ import annotations

import collections
import os
import queue
import threading
import types
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Protocol

from nova_snapshot_driver import exception

#: The size of a block, in bytes: of a system call, of a hash, of a task.
BLOCK = 1 << 20

#: The number of blocks. They are reused: fresh memory costs more than reading.
BLOCKS = 8

#: The largest request: more of these are faster than fewer large ones.
REQUEST = 1 << 18


class Server(Protocol):
    def request(
        self,
        offset: int,
        buffer: memoryview,
        done: Callable[[int], None],
    ) -> None: ...

    def pump(self, until: Callable[[], bool]) -> None: ...


class ReadAhead:
    """Blocks that a thread reads before they are asked for.

    :param ranges: (offset, length) each
    """

    def __init__(
        self, server: Server, ranges: Iterable[tuple[int, int]]
    ) -> None:
        self._server = server
        self._ranges = ranges
        self._in_flight: collections.deque[_Block] = collections.deque()
        self._free: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[_Block | BaseException | None] = (
            queue.SimpleQueue()
        )
        self._stopped = False
        for _ in range(BLOCKS):
            self._free.put(memoryview(bytearray(BLOCK)))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Iterator[memoryview]:
        self._thread.start()
        return self._blocks()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: types.TracebackType | None,
    ) -> None:
        self._stopped = True
        self._free.put(None)
        # Wait for requests in flight: they are written into our buffers.
        self._thread.join()

    def _blocks(self) -> Iterator[memoryview]:
        while True:
            match self._ready.get():
                case None:
                    return
                case BaseException() as error:
                    raise error
                case block:
                    yield block.buffer[: block.length]
                    self._free.put(block.buffer)

    def _run(self) -> None:
        try:
            self._read()
            self._ready.put(None)
        except BaseException as error:
            self._ready.put(error)

    def _read(self) -> None:
        for requests in _packed(self._ranges):
            buffer = self._take_buffer()
            if buffer is None or self._stopped:
                break
            self._in_flight.append(_Block(self._server, buffer, requests))
        while self._in_flight:
            self._finish_oldest()

    def _take_buffer(self) -> memoryview | None:
        while self._free.empty() and self._in_flight:
            self._finish_oldest()
        return self._free.get()

    def _finish_oldest(self) -> None:
        block = self._in_flight.popleft()
        self._server.pump(block.is_complete)
        if block.errno:
            raise exception.SourceUnreadable(reason=os.strerror(block.errno))
        self._ready.put(block)


class _Block:
    """A buffer that is being filled."""

    def __init__(
        self,
        server: Server,
        buffer: memoryview,
        requests: list[tuple[int, int]],
    ) -> None:
        self.buffer = buffer
        self.length = 0
        self.errno = 0
        self._missing = len(requests)
        for offset, length in requests:
            begin, self.length = self.length, self.length + length
            server.request(offset, buffer[begin : self.length], self._done)

    def is_complete(self) -> bool:
        return not self._missing

    def _done(self, errno: int) -> None:
        self._missing -= 1
        self.errno = self.errno or errno


def _packed(
    ranges: Iterable[tuple[int, int]],
) -> Iterator[list[tuple[int, int]]]:
    """The requests that fill block after block."""
    requests: list[tuple[int, int]] = []
    room = BLOCK
    for offset, length in ranges:
        end = offset + length
        while offset < end:
            size = min(REQUEST, room, end - offset)
            requests.append((offset, size))
            offset += size
            room -= size
            if not room:
                yield requests
                requests, room = [], BLOCK
    if requests:
        yield requests
