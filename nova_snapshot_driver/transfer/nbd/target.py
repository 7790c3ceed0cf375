# SPDX-License-Identifier: Apache-2.0
"""A volume that is written through NBD."""

from __future__ import annotations

import collections
import contextlib
import os
import types
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Volume
from nova_snapshot_driver.transfer.nbd import libnbd
from nova_snapshot_driver.transfer.nbd import qemu_nbd
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from nova_snapshot_driver.transfer.nbd.connection import Connection

#: The largest request, in bytes, and how many are under way at most.
REQUEST = 1 << 20
DEPTH = 8

#: The largest request for zeros, in bytes: some objects of Ceph as a whole,
#: which take no room then.
LARGEST_ZEROS = 1 << 25


class Target:
    """A disk that is written; its requests are under way side by side.

    :ivar sent: the bytes of data that were written so far
    """

    def __init__(
        self,
        module: types.ModuleType,
        connect: Callable[[Any], None],
        bounds: Bounds,
    ) -> None:
        self._module = module
        self._connection = Connection(
            module, bounds, exception.VolumeUnwritable
        )
        self._connection.connect(connect)
        self._free = collections.deque(
            memoryview(bytearray(REQUEST)) for _ in range(DEPTH)
        )
        self._under_way = 0
        self._errno = 0
        #: The begin and the end of zeros that are yet to be written.
        self._zeros = 0, 0
        self.sent = 0

    def close(self) -> None:
        self._connection.close()

    def write(self, offset: int, data: memoryview) -> None:
        """Write data, of which nothing is kept once this returns.

        :raises VolumeUnwritable: this or an earlier part can't be written
        """
        while data:
            self._pump(lambda: bool(self._free))
            buffer = self._free.popleft()
            size = min(len(data), REQUEST)
            buffer[:size] = data[:size]
            self._start(
                'aio_pwrite',
                self._module.Buffer.from_buffer(buffer[:size]),
                offset,
                done=self._freeing(buffer),
            )
            self.sent += size
            offset, data = offset + size, data[size:]

    def zero(self, offset: int, length: int) -> None:
        """Have a part read as zeros; parts that touch become one request.

        :param length: no more than that of a request for zeros
        :raises VolumeUnwritable: this or an earlier part can't be written
        """
        begin, end = self._zeros
        if offset != end or offset + length - begin > LARGEST_ZEROS:
            self._write_zeros()
            begin = offset
        self._zeros = begin, offset + length

    def _write_zeros(self) -> None:
        begin, end = self._zeros
        if begin < end:
            self._pump(lambda: self._under_way < DEPTH)
            self._start('aio_zero', end - begin, begin, done=lambda: None)
        self._zeros = 0, 0

    def finish(self) -> int:
        """Have all that was written on its storage.

        :returns: the bytes of data that were written
        :raises VolumeUnwritable: a part can't be written
        """
        self._write_zeros()
        self._pump(lambda: not self._under_way)
        self._start('aio_flush', done=lambda: None)
        self._pump(lambda: not self._under_way)
        return self.sent

    def _freeing(self, buffer: memoryview) -> Callable[[], None]:
        return lambda: self._free.append(buffer)

    def _start(
        self, request: str, *arguments: Any, done: Callable[[], None]
    ) -> None:
        def complete(error: Any) -> int:
            self._under_way -= 1
            self._errno = self._errno or error.value
            self._connection.served(REQUEST)
            done()
            return 1

        with self._connection.translated():
            getattr(self._connection.handle, request)(
                *arguments, completion=complete
            )
        self._under_way += 1

    def _pump(self, until: Callable[[], bool]) -> None:
        self._connection.pump(until)
        if self._errno:
            raise exception.VolumeUnwritable(reason=os.strerror(self._errno))


@contextlib.contextmanager
def opened(volume: Volume, bounds: Bounds, directory: str) -> Iterator[Target]:
    """
    :param directory: of the snapshot's own, in which a socket may lie
    :raises LibnbdMissing: it can't be written through NBD here
    :raises VolumeUnwritable: nobody serves it
    """
    module = libnbd.load()
    with (
        _serving(volume, directory) as server,
        contextlib.closing(_connected(module, server, bounds)) as target,
    ):
        yield target


@contextlib.contextmanager
def _serving(volume: Volume, directory: str) -> Iterator[qemu_nbd.Server]:
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(
                qemu_nbd.serving(volume, directory, writable=True)
            )
        except exception.SourceUnreadable as error:
            raise exception.VolumeUnwritable(
                reason=error.fields['reason']
            ) from error
        yield server


def _connected(
    module: types.ModuleType, server: qemu_nbd.Server, bounds: Bounds
) -> Target:
    def connect(handle: Any) -> None:
        handle.aio_connect_socket(server.connection.detach())

    try:
        return Target(module, connect, bounds)
    except exception.VolumeUnwritable as error:
        raise exception.VolumeUnwritable(
            reason=server.complaint() or error.fields['reason']
        ) from error
