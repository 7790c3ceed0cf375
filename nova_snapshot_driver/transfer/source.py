# SPDX-License-Identifier: Apache-2.0
"""What a view holds, as it is read through NBD."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import time
import types
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import IO
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.transfer import layer
from nova_snapshot_driver.transfer import libnbd
from nova_snapshot_driver.transfer.read_ahead import ReadAhead
from nova_snapshot_driver.transfer.throttle import Throttle
from nova_snapshot_driver.view import Export
from nova_snapshot_driver.view import View

#: How long a server may be silent while it is asked for something, in
#: seconds. Storage that comes back within it is waited for.
SILENCE = 120

#: What is asked for the extents of at once; the protocol has 32 bits for it.
_STATUS_REQUEST = 1 << 30


class Source:
    """The content of a disk. It stays the same while it is read.

    :ivar size: of the disk, in bytes
    """

    def __init__(
        self,
        module: types.ModuleType,
        connect: Callable[[Any], None],
        throttle: Throttle,
    ) -> None:
        self._module = module
        self._throttle = throttle
        self._handle = module.NBD()
        with self._translated():
            self._handle.add_meta_context(module.CONTEXT_BASE_ALLOCATION)
            # A server that is not asked for its block sizes takes any.
            self._handle.set_request_block_size(False)
            # A buffer whose reading has failed is never looked at.
            self._handle.set_pread_initialize(False)
            connect(self._handle)
            self._wait_until(self._handle.aio_is_ready)
            self.size: int = self._handle.get_size()
            self._knows_extents = self._handle.can_meta_context(
                module.CONTEXT_BASE_ALLOCATION
            )

    def forget_socket(self) -> None:
        """Remove the socket through which the connection came to be.

        libnbd would do so at the end, which a process that is killed has not.
        """
        with socket.socket(fileno=os.dup(self._handle.aio_get_fd())) as peer:
            path = peer.getpeername()
        os.unlink(path)
        os.rmdir(os.path.dirname(path))

    def close(self) -> None:
        # Neither waits for an answer, and what was started only reads.
        for end in (
            self._handle.aio_disconnect,
            lambda: self._handle.kill_subprocess(signal.SIGKILL),
        ):
            with contextlib.suppress(self._module.Error):
                end()
        # It is the end of the handle that closes the connection, and waits
        # for the end of the server.
        del self._handle

    def data(self) -> Iterator[tuple[int, int]]:
        """The extents that may not be left out, as (offset, end).

        What is not among them reads as zero.
        """
        if not self._knows_extents:
            yield 0, self.size
            return
        offset = 0
        while offset < self.size:
            for length, flags in self._status(offset):
                end = min(offset + length, self.size)
                # A hole alone may read as anything.
                if not flags & self._module.STATE_ZERO:
                    yield offset, end
                offset = end

    def _status(self, offset: int) -> list[tuple[int, int]]:
        found: list[int] = []
        answered: list[int] = []

        def extent(
            _context: str, _offset: int, entries: list[int], _error: Any
        ) -> None:
            found.extend(entries)

        def done(error: Any) -> int:
            answered.append(error.value)
            return 1

        with self._translated():
            self._handle.aio_block_status(
                min(_STATUS_REQUEST, self.size - offset),
                offset,
                extent,
                done,
            )
            self._wait_until(lambda: bool(answered))
        if answered[0] or not found:
            raise exception.SourceUnreadable(
                reason=f'no extents at {offset}: {os.strerror(answered[0])}'
            )
        return list(zip(found[::2], found[1::2], strict=True))

    def read(self, ranges: Iterable[tuple[int, int]]) -> ReadAhead:
        """Read ahead what lies in ranges, given as (offset, length).

        :returns: a context with the bytes, one range after the other, in
            blocks of ``read_ahead.BLOCK`` bytes of which only the last is
            shorter; each is valid until the next one is asked for
        """
        return ReadAhead(self, ranges)

    def request(
        self,
        offset: int,
        buffer: memoryview,
        done: Callable[[int], None],
    ) -> None:
        """Have a part of the disk read into a buffer, some time.

        :param done: called with an ``errno``, or 0, from within ``pump()``
        """

        def complete(error: Any) -> int:
            done(error.value)
            return 1

        self._throttle.take(len(buffer))
        with self._translated():
            self._handle.aio_pread(
                self._module.Buffer.from_buffer(buffer), offset, complete
            )

    def pump(self, until: Callable[[], bool]) -> None:
        """Let answers come in until something holds.

        :raises SourceUnreadable: the server is gone, or does not answer
        """
        with self._translated():
            self._wait_until(until)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SILENCE
        while not condition():
            if self._handle.aio_is_dead() or self._handle.aio_is_closed():
                raise exception.SourceUnreadable(
                    reason='the server has closed the connection'
                )
            if self._handle.poll(1000):
                deadline = time.monotonic() + SILENCE
            elif time.monotonic() > deadline:
                raise exception.SourceUnreadable(
                    reason=f'no answer for {SILENCE} s'
                )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._module.Error as error:
            raise exception.SourceUnreadable(reason=str(error)) from error


@contextlib.contextmanager
def opened(view: View, throttle: Throttle) -> Iterator[Source]:
    """
    :raises LibnbdMissing: it can't be read through NBD here
    :raises SourceUnreadable: nobody serves it
    """
    module = libnbd.load()
    match view:
        case Export():
            source = _export(module, view, throttle)
        case Layer():
            source = _layer(module, view, throttle)
    with contextlib.closing(source):
        yield source


def _export(
    module: types.ModuleType, export: Export, throttle: Throttle
) -> Source:
    def connect(handle: Any) -> None:
        handle.set_export_name(export.name)
        handle.aio_connect_unix(export.socket)

    return Source(module, connect, throttle)


def _layer(
    module: types.ModuleType, image: Layer, throttle: Throttle
) -> Source:
    """Serve an image by a ``qemu-nbd`` that ends with the connection."""
    if shutil.which('qemu-nbd') is None:
        raise exception.CommandMissing(
            command='qemu-nbd', package='qemu-utils'
        )
    with (
        layer.arguments(image) as (arguments, _),
        tempfile.TemporaryFile() as errors,
    ):

        def connect(handle: Any) -> None:
            with _standard_error(errors):
                handle.aio_connect_systemd_socket_activation(
                    ['qemu-nbd', '--read-only', *arguments]
                )

        try:
            source = Source(module, connect, throttle)
            source.forget_socket()
        except exception.SourceUnreadable as error:
            errors.seek(0)
            reason = errors.read().decode(errors='replace').strip()
            raise exception.SourceUnreadable(
                reason=reason or error.fields['reason']
            ) from error
    return source


@contextlib.contextmanager
def _standard_error(file: IO[bytes]) -> Iterator[None]:
    """Have a child that is started meanwhile complain into a file."""
    previous = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(previous, 2)
        os.close(previous)
