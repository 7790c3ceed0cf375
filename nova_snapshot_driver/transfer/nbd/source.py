# SPDX-License-Identifier: Apache-2.0
"""The content of a view, read through NBD."""

from __future__ import annotations

import contextlib
import os
import types
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Opened
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.transfer.nbd import libnbd
from nova_snapshot_driver.transfer.nbd import peer
from nova_snapshot_driver.transfer.nbd import qemu_nbd
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from nova_snapshot_driver.transfer.nbd.connection import Connection
from nova_snapshot_driver.transfer.nbd.read_ahead import ReadAhead
from nova_snapshot_driver.transfer.nbd.throttle import Throttle

#: The largest disk, in bytes: QEMU opens no larger qcow2 image, and the tables
#: of one would not fit into memory.
LARGEST = 1 << 51

#: The bytes whose extents are asked for at once; the protocol has 32 bits for
#: the length.
_STATUS_REQUEST = 1 << 30

#: The context of a dirty bitmap, and the flag of what has changed. libnbd has
#: no constants for them.
#: Source: docs/interop/nbd.txt of QEMU
_DIRTY_BITMAP = 'qemu:dirty-bitmap:'
_STATE_DIRTY = 1 << 0

#: The unit of extents, in bytes.
_SECTOR = 512

#: The most extents in an answer, which is QEMU's own limit.
_MOST_IN_ANSWER = 1 << 17

#: The most questions for extents. QEMU's answers are complete or full; the
#: rest of a disk with more extents is read.
_MOST_ANSWERS = 1 << 16


class Source:
    """The content of a disk, which stays the same while it is read.

    Nothing that the server says is trusted: a guest that has broken out of its
    QEMU may be the server.

    :param size: the known size of the disk in bytes; None where nobody else
        knows it
    :param bitmap: the name that the server has for a dirty bitmap
    :ivar size: of the disk, in bytes
    """

    def __init__(
        self,
        module: types.ModuleType,
        connect: Callable[[Any], None],
        bounds: Bounds,
        size: int | None = None,
        bitmap: str | None = None,
    ) -> None:
        self._module = module
        self._throttle = Throttle(bounds.bandwidth)
        self._bitmap = None if bitmap is None else _DIRTY_BITMAP + bitmap
        self._connection = Connection(
            module, bounds, exception.SourceUnreadable
        )
        handle = self._connection.handle
        with self._connection.translated():
            handle.add_meta_context(module.CONTEXT_BASE_ALLOCATION)
            if self._bitmap is not None:
                handle.add_meta_context(self._bitmap)
            # Block sizes are not negotiated: the server has to take any then.
            handle.set_request_block_size(False)
            # A buffer whose reading has failed is never looked at.
            handle.set_pread_initialize(False)
        self._connection.connect(connect)
        with self._connection.translated():
            self.size: int = handle.get_size()
        _check_size(self.size, size)

    def close(self) -> None:
        self._connection.close()

    def data(self) -> Iterator[tuple[int, int]]:
        """The extents that hold data, as (offset, end).

        All other parts read as zero.
        """
        context = self._module.CONTEXT_BASE_ALLOCATION
        if not self._knows(context):
            yield 0, self.size
            return
        for begin, end, flags in self._extents_of(context):
            # A hole without the flag may read as anything.
            if not flags & self._module.STATE_ZERO:
                yield begin, end

    def dirty(self) -> Iterator[tuple[int, int]]:
        """The extents that the dirty bitmap has, as (offset, end).

        :raises SourceUnreadable: the server has no such bitmap
        """
        if self._bitmap is None or not self._knows(self._bitmap):
            raise exception.SourceUnreadable(
                reason=f'the server has no {self._bitmap or "dirty bitmap"}'
            )
        for begin, end, flags in self._extents_of(self._bitmap):
            if flags & _STATE_DIRTY:
                yield begin, end

    def _knows(self, context: str) -> bool:
        with self._connection.translated():
            return bool(self._connection.handle.can_meta_context(context))

    def _extents_of(self, wanted: str) -> Iterator[tuple[int, int, int]]:
        """The extents of the disk in a context, as (offset, end, flags).

        The rest that a server does not describe counts as data, and as
        changed.
        """
        offset = 0
        for _ in range(_MOST_ANSWERS):
            if offset == self.size:
                return
            end = min(offset + _STATUS_REQUEST, self.size)
            for length, flags in self._status(wanted, offset, end):
                begin, offset = offset, min(offset + length, end)
                yield begin, offset, flags
        if offset < self.size:
            yield offset, self.size, _STATE_DIRTY

    def _status(
        self, wanted: str, begin: int, end: int
    ) -> Iterator[tuple[int, int]]:
        """The extents that a server says a part has, as (length, flags).

        :param wanted: the context
        :raises SourceUnreadable: it can't be so
        """
        found: list[list[int]] = []
        answered: list[int] = []

        def extent(
            context: str, offset: int, entries: list[int], _error: Any
        ) -> None:
            if context == wanted:
                found.append(entries)

        def done(error: Any) -> int:
            answered.append(error.value)
            return 1

        with self._connection.translated():
            self._connection.handle.aio_block_status(
                end - begin, begin, extent, done
            )
        self._connection.pump(lambda: bool(answered))
        self._connection.served(0)
        if answered[0] or len(found) != 1:
            said = os.strerror(answered[0]) if answered[0] else 'no answer'
            raise exception.SourceUnreadable(
                reason=f'no extents at {begin}: {said}'
            )
        (entries,) = found
        if not 2 <= len(entries) <= 2 * _MOST_IN_ANSWER:
            raise exception.SourceUnreadable(
                reason=f'{len(entries) // 2} extents at {begin}'
            )
        return _extents(entries, begin, end)

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
        """Start reading a part of the disk into a buffer.

        :param done: called with an ``errno``, or 0, from within ``pump()``
        """

        def complete(error: Any) -> int:
            self._connection.served(len(buffer))
            done(error.value)
            return 1

        self._throttle.take(len(buffer))
        with self._connection.translated():
            self._connection.handle.aio_pread(
                self._module.Buffer.from_buffer(buffer), offset, complete
            )

    def pump(self, until: Callable[[], bool]) -> None:
        """Process answers until a condition holds.

        :raises SourceUnreadable: the server is gone, or does not answer
        """
        self._connection.pump(until)


def _check_size(size: int, known: int | None) -> None:
    """
    :raises SourceUnreadable: no disk of ours has that size
    """
    if known is not None and size != known:
        raise exception.SourceUnreadable(
            reason=f'the server says {size} bytes, and libvirt {known}'
        )
    if not 0 <= size <= LARGEST:
        raise exception.SourceUnreadable(
            reason=f'the server says {size} bytes, and no disk has more than '
            f'{LARGEST}'
        )


def _extents(
    entries: list[int], begin: int, end: int
) -> Iterator[tuple[int, int]]:
    """
    :param entries: lengths and flags, by turns
    :raises SourceUnreadable: one is no piece of a disk
    """
    offset = begin
    for length, flags in zip(entries[::2], entries[1::2], strict=True):
        offset += length
        # The last extent of an answer may exceed the request; a file may end
        # in the middle of its last sector.
        if length <= 0 or (offset % _SECTOR and offset + _SECTOR <= end):
            raise exception.SourceUnreadable(
                reason=f'an extent of {length} bytes before {offset}'
            )
        yield length, flags
        if offset >= end:
            return


@contextlib.contextmanager
def opened(view: View, bounds: Bounds, directory: str) -> Iterator[Source]:
    """
    :param directory: of the snapshot's own, in which a socket may lie
    :raises LibnbdMissing: it can't be read through NBD here
    :raises SourceUnreadable: nobody serves it
    """
    module = libnbd.load()
    match view:
        case Export():
            reader = _export(module, view, bounds)
        case _:
            reader = _opened_by_qemu(module, view, bounds, directory)
    with reader as source:
        yield source


@contextlib.contextmanager
def _export(
    module: types.ModuleType, export: Export, bounds: Bounds
) -> Iterator[Source]:
    with peer.connected(export) as connection:

        def connect(handle: Any) -> None:
            handle.set_export_name(export.name)
            handle.aio_connect_socket(connection.detach())

        with contextlib.closing(
            Source(module, connect, bounds, export.size, export.bitmap)
        ) as source:
            yield source


@contextlib.contextmanager
def _opened_by_qemu(
    module: types.ModuleType, image: Opened, bounds: Bounds, directory: str
) -> Iterator[Source]:
    with qemu_nbd.serving(image, directory) as server:

        def connect(handle: Any) -> None:
            handle.aio_connect_socket(server.connection.detach())

        try:
            source = Source(module, connect, bounds)
        except exception.SourceUnreadable as error:
            raise exception.SourceUnreadable(
                reason=server.complaint() or error.fields['reason']
            ) from error
        with contextlib.closing(source):
            yield source
