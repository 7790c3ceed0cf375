# SPDX-License-Identifier: Apache-2.0
"""An NBD server that says what it is told to.

Source: doc/proto.md of NBD
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import struct
import sys
import threading
from collections.abc import Callable

import fixtures

from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Server

_INIT = b'NBDMAGIC'
_OPTION = b'IHAVEOPT'
_OPTION_REPLY = 0x3E889045565A9
_REQUEST = struct.Struct('>IHHQQI')
_CHUNK = struct.Struct('>IHHQI')
_CHUNK_MAGIC = 0x668E33EF
_CONTEXT = b'base:allocation'
_DIRTY = b'qemu:dirty-bitmap:chg'

_GO = 7
_ACK, _INFO, _CONTEXT_INFO, _UNSUPPORTED = 1, 3, 4, (1 << 31) + 1
_DISCONNECT = 2
_DONE, _DATA, _EXTENTS = 1, 1, 5

#: (length, flags) each; a flag of 2 says that it reads as zero.
Extents = list[tuple[int, int]]


class _Gone(Exception):
    """The client has closed the connection."""


class NbdServer(fixtures.Fixture):
    """Serves bytes that are all alike, until it is told otherwise.

    :ivar size: that it says the disk has, in bytes
    :ivar extents: that it says a part of it has, as offset and length
    :ivar context: the number of the context that they are of
    :ivar dirty: the extents in the dirty bitmap that it exports; None where it
        exports none
    :ivar sent: by what each piece that it sends is replaced, and its number
        from 0 on; nothing more is sent where that is None
    :ivar requests: how often it was asked for something
    :ivar gone: set when nobody needs it any more
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.extents: Callable[[int, int], Extents] = lambda _, length: [
            (length, 0)
        ]
        self.context = 1
        self.dirty: Callable[[int, int], Extents] | None = None
        self.sent: Callable[[int, bytes], bytes | None] = lambda _, data: data
        self.requests = 0
        self.gone = threading.Event()

    def _setUp(self) -> None:
        root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(root / 's'))
        self._listener.listen(1)
        self._connection: socket.socket | None = None
        self._pieces = 0
        thread = threading.Thread(target=self._run, daemon=True)
        self.addCleanup(thread.join)
        self.addCleanup(self._end)
        thread.start()
        self._path = str(root / 's')

    def export(
        self, size: int | None = None, bitmap: str | None = None
    ) -> Export:
        """
        :param size: that libvirt says it has; None for the same
        :param bitmap: the one that it is said to export
        """
        return Export(
            self._path,
            'vda',
            self.size if size is None else size,
            Inode.of(os.stat(self._path)),
            Server(os.geteuid(), (sys.orig_argv[0], sys.orig_argv[1])),
            bitmap,
        )

    def drip(self, data: bytes) -> None:
        """Send something before what is sent next."""
        assert self._connection is not None
        self._connection.sendall(data)

    def _end(self) -> None:
        self.gone.set()
        for end in (self._listener, self._connection):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            while True:
                self._connection, _ = self._listener.accept()
                with (
                    self._connection,
                    contextlib.suppress(OSError, _Gone),
                ):
                    self._serve()
        except OSError:
            self._listener.close()

    def _serve(self) -> None:
        self._send(_INIT + _OPTION + struct.pack('>H', 1))
        self._receive(4)
        while self._negotiate():
            pass
        while self._answer():
            self.requests += 1

    def _negotiate(self) -> bool:
        _, option, length = struct.unpack('>8sII', self._receive(16))
        self._receive(length)

        def reply(kind: int, data: bytes = b'') -> None:
            head = struct.pack('>QIII', _OPTION_REPLY, option, kind, len(data))
            self._send(head + data)

        match option:
            case 7:  # NBD_OPT_GO
                reply(_INFO, struct.pack('>HQH', 0, self.size, 1))
                reply(_ACK)
            case 8:  # NBD_OPT_STRUCTURED_REPLY
                reply(_ACK)
            case 10:  # NBD_OPT_SET_META_CONTEXT
                reply(_CONTEXT_INFO, struct.pack('>I', 1) + _CONTEXT)
                if self.dirty is not None:
                    reply(_CONTEXT_INFO, struct.pack('>I', 2) + _DIRTY)
                reply(_ACK)
            case _:
                reply(_UNSUPPORTED)
        return int(option) != _GO

    def _answer(self) -> bool:
        _, _, kind, cookie, offset, length = _REQUEST.unpack(
            self._receive(_REQUEST.size)
        )
        match kind:
            case 0:  # NBD_CMD_READ
                data = struct.pack('>Q', offset) + b'x' * length
                self._chunk(_DATA, cookie, data)
            case 7:  # NBD_CMD_BLOCK_STATUS
                described = [(self.context, self.extents)]
                if self.dirty is not None:
                    described.append((2, self.dirty))
                for context, extents in described:
                    data = struct.pack('>I', context) + b''.join(
                        struct.pack('>II', *extent)
                        for extent in extents(offset, length)
                    )
                    is_last = context == described[-1][0]
                    self._chunk(_EXTENTS, cookie, data, is_last)
        return int(kind) != _DISCONNECT

    def _chunk(
        self, kind: int, cookie: int, data: bytes, is_last: bool = True
    ) -> None:
        flags = _DONE if is_last else 0
        head = _CHUNK.pack(_CHUNK_MAGIC, flags, kind, cookie, len(data))
        self._send(head + data)

    def _send(self, data: bytes) -> None:
        assert self._connection is not None
        number, self._pieces = self._pieces, self._pieces + 1
        changed = self.sent(number, data)
        if changed is None:
            raise _Gone
        self._connection.sendall(changed)

    def _receive(self, size: int) -> bytes:
        assert self._connection is not None
        data = b''
        while len(data) < size:
            more = self._connection.recv(size - len(data))
            if not more:
                raise _Gone
            data += more
        return data
