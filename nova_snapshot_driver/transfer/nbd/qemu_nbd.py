# SPDX-License-Identifier: Apache-2.0
"""A ``qemu-nbd`` that serves an image to this process alone.

``qemu-nbd`` takes a listening socket, as from systemd (sd_listen_fds(3)).
libnbd could make such a socket too, but does so beneath ``/tmp``, where a
process that is killed leaves it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import children
from nova_snapshot_driver.common.view import Opened
from nova_snapshot_driver.common.view import Volume
from nova_snapshot_driver.transfer.nbd import activation
from nova_snapshot_driver.transfer.nbd import complaints
from nova_snapshot_driver.transfer.nbd import image_options

#: The arguments by which an image is served for reading, or for writing.
_MODES = {False: ['--read-only'], True: ['--discard=unmap']}

#: The seconds in which a server ends once its client has left. Of a client of
#: Ceph that is killed its lock and its watch stay, and keep others waiting for
#: half a minute, even those who snapshot an image that it has only read.
_END_TIMEOUT = 30

#: A path by way of a descriptor of the directory: the real one may be longer
#: than the kernel takes for a socket.
_IN_DIRECTORY = '/proc/self/fd/{descriptor}/source'


@dataclasses.dataclass(frozen=True)
class Server:
    """A ``qemu-nbd`` that serves one image.

    :ivar connection: its only one
    """

    connection: socket.socket
    _errors: IO[bytes]

    def complaint(self) -> str:
        """The standard error of the process so far."""
        return complaints.read(self._errors)


@contextlib.contextmanager
def serving(
    image: Opened, directory: str, writable: bool = False
) -> Iterator[Server]:
    """Have an image served, for as long as the context lasts.

    :param directory: in which a socket lies for a moment
    :param image: the client of a Volume disconnects before the context ends
    :raises CommandMissing: ``qemu-nbd`` is not installed
    :raises SourceUnreadable: it can't be started
    """
    if shutil.which('qemu-nbd') is None:
        raise exception.CommandMissing(
            command='qemu-nbd', package='qemu-utils'
        )
    with (
        image_options.arguments(image) as (arguments, inherited),
        complaints.new() as errors,
        contextlib.ExitStack() as stack,
    ):
        try:
            listener, connection = _connected(directory)
            stack.enter_context(connection)
            with listener:
                process = _start(
                    [*_MODES[writable], *arguments],
                    *(inherited, listener, errors),
                )
        except OSError as error:
            raise exception.SourceUnreadable(
                reason=f'qemu-nbd does not start: {error.strerror}'
            ) from error
        stack.callback(_kill, process)
        if isinstance(image, Volume):
            stack.callback(_let_end, process)
        yield Server(connection, errors)


def _connected(directory: str) -> tuple[socket.socket, socket.socket]:
    """A listening socket, and the connection that waits for its answer.

    The path is gone before the server starts. Until then this user alone may
    connect, and afterwards nobody can.
    """
    with contextlib.ExitStack() as stack:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        stack.callback(os.close, descriptor)
        path = _IN_DIRECTORY.format(descriptor=descriptor)
        with contextlib.ExitStack() as sockets:
            listener, connection = (
                sockets.enter_context(socket.socket(socket.AF_UNIX))
                for _ in range(2)
            )
            # The kernel gives the file the mode of the socket.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(path)
            stack.callback(os.unlink, path)
            listener.listen(1)
            connection.connect(path)
            sockets.pop_all()
    return listener, connection


def _start(
    arguments: list[str],
    inherited: tuple[int, ...],
    listener: socket.socket,
    errors: IO[bytes],
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 (a list, and no shell)
        [
            *(sys.executable, '-I', '-S', activation.__file__),
            *('qemu-nbd', *arguments),
        ],
        stdin=listener.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=children.environment(),
        pass_fds=inherited,
    )


def _let_end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_TIMEOUT)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
