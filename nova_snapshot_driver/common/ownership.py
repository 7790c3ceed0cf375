# SPDX-License-Identifier: Apache-2.0
"""The owner of a file in a directory that another user may write to.

A path leads elsewhere as soon as that user puts a link in it. A file is opened
with ``O_PATH`` (open(2)), inspected, and changed through the same descriptor.

Root calls this module too, in nova's privsep daemon: it imports nothing but
the standard library, and its errors are ``OSError``, which survives the way
back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import os
import stat
from collections.abc import Collection
from collections.abc import Iterator
from typing import NoReturn
from typing import Self

ROOT = 0

_NAMED = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Kind(enum.Enum):
    """The kind of a file."""

    SOCKET = 'a socket'
    FILE = 'a regular file'


_KINDS = {
    stat.S_IFSOCK: Kind.SOCKET.value,
    stat.S_IFREG: Kind.FILE.value,
    stat.S_IFLNK: 'a symbolic link',
    stat.S_IFDIR: 'a directory',
    stat.S_IFIFO: 'a named pipe',
    stat.S_IFCHR: 'a device',
    stat.S_IFBLK: 'a device',
}


@dataclasses.dataclass(frozen=True)
class Inode:
    """A file, whatever its current name.

    :ivar device: ``st_dev`` of stat(3)
    :ivar number: ``st_ino``
    """

    device: int
    number: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        return cls(status.st_dev, status.st_ino)


@contextlib.contextmanager
def named(path: str, directory: int | None = None) -> Iterator[int]:
    """A descriptor of the file with a name: of a link itself, if it is one.

    :param directory: a descriptor of the directory that has the name
    """
    descriptor = os.open(path, _NAMED, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def path_of(descriptor: int) -> str:
    """A path that leads to the very file of a descriptor."""
    return f'/proc/self/fd/{descriptor}'


def inspect(
    path: str, kind: Kind, owners: Collection[int], claimant: int
) -> os.stat_result:
    """Check that a file is what is expected.

    :param owners: the users of whom one has to own it
    :param claimant: the user that is to get it
    :raises OSError: it is something else, or is gone
    """
    with _inspected(path, kind, owners, claimant) as descriptor:
        return os.fstat(descriptor)


def claim(
    path: str,
    kind: Kind,
    owners: Collection[int],
    claimant: int,
    inode: Inode,
) -> None:
    """Give a file that is what is expected to another user.

    :param owners: as that of ``inspect``, and ``claimant`` too
    :param inode: of the file
    :raises OSError: it is something else, or is gone
    """
    with _inspected(path, kind, owners, claimant) as descriptor:
        if Inode.of(os.fstat(descriptor)) != inode:
            _refuse('it has been replaced')
        os.chown(path_of(descriptor), claimant, -1)


def entrust(directory: str, owner: int, uid: int, gid: int) -> None:
    """Give an empty directory to another user.

    :param owner: the user that created it
    :param uid: the user that gets it
    :param gid: the group that gets it; -1 leaves the group as it is
    :raises OSError: it is something else
    """
    descriptor = os.open(
        directory,
        os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
    )
    try:
        _require_owner(os.fstat(descriptor), (owner,))
        if os.listdir(descriptor):
            _refuse('it is not empty')
        os.fchown(descriptor, uid, gid)
    finally:
        os.close(descriptor)


def set_mode(path: str, mode: int) -> None:
    """Change the mode of a file, and never that of the target of a link.

    :raises OSError: it is a link
    """
    with named(path) as descriptor:
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            _refuse(f'it is {_KINDS[stat.S_IFLNK]}')
        os.chmod(path_of(descriptor), mode)


@contextlib.contextmanager
def _inspected(
    path: str, kind: Kind, owners: Collection[int], claimant: int
) -> Iterator[int]:
    """A descriptor of a file that has passed the inspection."""
    directory, name = os.path.split(os.path.abspath(path))
    above, last = os.path.split(directory)
    with contextlib.ExitStack() as stack:
        # The directory itself may be a link that an operator has made.
        parent = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, parent)
        holder = stack.enter_context(named(last, parent))
        _require_directory(
            os.fstat(holder), os.fstat(parent), {*owners, claimant}, claimant
        )
        descriptor = stack.enter_context(named(name, holder))
        status = os.fstat(descriptor)
        _require_kind(status, kind)
        # A second name may be in a directory that nobody watches.
        if status.st_nlink != 1:
            _refuse(f'it has {status.st_nlink} names')
        _require_owner(status, owners)
        yield descriptor


def _require_directory(
    status: os.stat_result,
    above: os.stat_result,
    owners: Collection[int],
    claimant: int,
) -> None:
    """Check that a directory is one, and belongs to whom it should."""
    if not stat.S_ISDIR(status.st_mode):
        _refuse(f'its directory is {_kind(status)}')
    if status.st_uid not in owners:
        _refuse(f'its directory belongs to the user {status.st_uid}')
    is_kept = above.st_mode & stat.S_ISVTX and status.st_uid == claimant
    if above.st_mode & stat.S_IWOTH and not is_kept:
        _refuse('anybody may replace its directory')


def _require_kind(status: os.stat_result, kind: Kind) -> None:
    if _kind(status) != kind.value:
        _refuse(f'it is {_kind(status)}, and not {kind.value}')


def _require_owner(status: os.stat_result, owners: Collection[int]) -> None:
    if status.st_uid not in owners:
        _refuse(f'it belongs to the user {status.st_uid}')


def _kind(status: os.stat_result) -> str:
    return _KINDS[stat.S_IFMT(status.st_mode)]


def _refuse(reason: str) -> NoReturn:
    raise PermissionError(errno.EPERM, reason)
