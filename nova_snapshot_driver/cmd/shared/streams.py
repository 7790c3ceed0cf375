# SPDX-License-Identifier: Apache-2.0
"""The standard streams, whatever a shell, cron or a pipe has made of them."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any
from typing import TextIO

from nova_snapshot_driver import exception

STDOUT = 1
STDERR = 2

#: The error handler for characters that the encoding of a stream lacks.
_ERRORS = 'backslashreplace'


@contextlib.contextmanager
def usable() -> Iterator[None]:
    """Keep the streams usable for as long as the context lasts.

    Each of the three descriptors is open, every character can be encoded, and
    errors of standard error are ignored: nobody else can be told.
    """
    _open_all()
    output, errors = sys.stdout, sys.stderr
    if isinstance(output, io.TextIOWrapper):
        output.reconfigure(errors=_ERRORS)
    if errors is None or errors is sys.__stderr__:
        sys.stderr = _unfailing(errors)
    try:
        yield
    finally:
        sys.stderr = errors


def _open_all() -> None:
    """Open the closed standard streams on /dev/null.

    The next file that is opened would get the number of one, and the output of
    a library would be written to that file.
    """
    for descriptor in range(STDERR + 1):
        try:
            os.fstat(descriptor)
        except OSError:
            # The kernel assigns the lowest free number.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


class _Unfailing(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written


def _unfailing(stream: TextIO | None) -> TextIO:
    file = _Unfailing(STDERR, 'w', closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding='utf-8' if stream is None else stream.encoding,
        errors=_ERRORS,
        line_buffering=True,
    )


def write(text: str) -> None:
    """Write a result to standard output.

    :raises OutputUnwritable: it can't be, and is on standard error instead
    """
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _drop_output()
        sys.stderr.write(text)
        raise exception.OutputUnwritable(reason=error.strerror) from error


def is_flushed() -> bool:
    """Whether all that was written to standard output has arrived."""
    if sys.stdout is None:
        return False
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
        return False
    return True


def _drop_output() -> None:
    """Keep Python from flushing at exit what has failed already."""
    if sys.stdout is not None and sys.stdout is sys.__stdout__:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, STDOUT)
        os.close(nothing)
