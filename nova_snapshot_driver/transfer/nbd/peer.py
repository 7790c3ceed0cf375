# SPDX-License-Identifier: Apache-2.0
"""A connection to the server of an export, and to no other process.

The path of the socket lies in a directory that the guest's QEMU may write to:
it could lead to the export of another guest.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import socket
import struct
from collections.abc import Iterator
from typing import NoReturn

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import ownership
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.view import Export

#: The seconds that a server may let this process wait behind other clients.
PATIENCE = 30

#: ``struct ucred`` of unix(7): the process, its user, its group.
_CREDENTIALS = struct.Struct('3i')

#: ``struct timeval`` of socket(7).
_TIME = struct.Struct('ll')

#: The process id of a peer outside of our PID namespace.
_UNSEEN = 0


@contextlib.contextmanager
def connected(export: Export) -> Iterator[socket.socket]:
    """A connection to the server of an export.

    :raises SourceUnreadable: nobody listens
    :raises ServerForeign: another process listens
    """
    with socket.socket(socket.AF_UNIX) as connection:
        _connect(connection, export)
        _require_server(connection, export)
        yield connection


def _connect(connection: socket.socket, export: Export) -> None:
    try:
        with ownership.named(export.socket) as descriptor:
            if Inode.of(os.fstat(descriptor)) != export.inode:
                _refuse(export, 'another file has been put in its place')
            # Set the timeout in the kernel: Python's own would make the socket
            # non-blocking.
            _set_patience(connection, PATIENCE)
            connection.connect(ownership.path_of(descriptor))
            _set_patience(connection, 0)
    except OSError as error:
        raise exception.SourceUnreadable(
            reason=f'no connection to {export.socket}: {error.strerror}'
        ) from error


def _set_patience(connection: socket.socket, seconds: int) -> None:
    """Set how long a call may wait for the peer; 0 is for ever."""
    connection.setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(seconds, 0)
    )


def _require_server(connection: socket.socket, export: Export) -> None:
    """Check that the process which listens is the expected one.

    The kernel has recorded its user and its process id at listen(2).
    """
    pid, uid, _gid = _CREDENTIALS.unpack(
        connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
    )
    server = export.server
    if server.uid is not None and uid != server.uid:
        _refuse(export, f'a process of the user {uid} listens there')
    if pid == _UNSEEN and server.uid is not None:
        # In a container, processes outside have no id: the user has to do.
        return
    arguments = _command_line(pid)
    if arguments is None:
        _refuse(export, f'the process {pid}, which listens, is not to be seen')
    if server.option not in itertools.pairwise(arguments):
        _refuse(
            export,
            f'the process {pid}, which listens, has no argument '
            f'{" ".join(server.option)}',
        )


def _command_line(pid: int) -> list[str] | None:
    try:
        content = pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()
    except OSError:
        return None
    return os.fsdecode(content).split('\0')


def _refuse(export: Export, reason: str) -> NoReturn:
    raise exception.ServerForeign(socket=export.socket, reason=reason)
