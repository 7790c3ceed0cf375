# SPDX-License-Identifier: Apache-2.0
"""The file that an image is written to.

Its directory may be another user's, who can put a link there at any moment.
The file is thus opened once, and is written by its descriptor from then on.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.private_files import NoFile
from nova_snapshot_driver.common.private_files import Refused


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """A file that is new, or was left by an attempt before this one.

    :returns: its descriptor, which may be written and read
    :raises Refused: there is something else
    :raises OSError: it can't be opened
    """
    # QEMU's tools read again what they have written.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        file = os.open(path, flags)
    try:
        _see_is_ours(path, os.fstat(file))
        # The umask may have taken bits from the mode.
        os.fchmod(file, 0o600)
        yield file
    finally:
        os.close(file)


@contextlib.contextmanager
def emptied(path: str) -> Iterator[int]:
    """A file as ``opened()`` has it, without what an attempt has left in it.

    :raises FileUnwritable: there can be none
    """
    with contextlib.ExitStack() as stack:
        with writing(path):
            file = stack.enter_context(opened(path))
            os.ftruncate(file, 0)
        yield file


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """
    :raises FileUnwritable: instead of what the system says of a file
    """
    try:
        yield
    except OSError as error:
        raise exception.FileUnwritable(
            path=path, reason=error.strerror
        ) from error


def forget(file: int) -> None:
    """Have the kernel forget what it keeps of a file that is on its storage.

    The next reader sees what the storage has: a proof is to read that.
    """
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def _see_is_ours(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NoFile(path)
    if status.st_uid != os.geteuid():
        raise Refused(path, f'it is of the user {status.st_uid}')
    if status.st_nlink != 1:
        raise Refused(path, 'it has another name, too')
