# SPDX-License-Identifier: Apache-2.0
"""Files of the driver's own, where somebody may have put a link in place.

A directory is held by its descriptor, and nobody but its owner and root writes
to it. A file is created under a random name, is given its owner and its mode
through its descriptor, and only then gets its final name. Nothing follows a
link, and nothing but files of the right owner is opened: root may work in the
directory of another user, who may have set a trap there.

Sources: path_resolution(7), open(2), fcntl_locking(2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shlex
import stat
import struct
from collections.abc import Iterator

ROOT = 0

#: The suffix of a file that is not complete.
DRAFT = '.draft'

#: A ``struct flock``: type, whence, start, length and process. F_GETLK returns
#: the holder of a conflicting lock in it.
_ANYBODY = struct.pack('hhqqi', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)

#: How often to reopen a lock file that other processes remove.
_ATTEMPTS = 10


class Refused(OSError):
    """A file is left alone: the ``strerror`` says why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(errno.EPERM, why, path)


class NoFile(Refused):
    """A link, a pipe, a directory or a device has the name of a file."""

    def __init__(self, path: str) -> None:
        super().__init__(path, 'it is no file')


class Directory:
    """A directory of private files, while it is open.

    All names are of files in it. Every method raises ``OSError``.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._status = os.fstat(descriptor)

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str) -> Iterator[Directory]:
        """
        :raises Refused: somebody else writes to it, who could take away what
            lies there and put anything in its place
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            see_nobody_else_writes(path, os.fstat(descriptor))
            yield cls(path, descriptor)
        finally:
            os.close(descriptor)

    @property
    def owner(self) -> int:
        """The user that owns the files.

        For root this is the owner of the directory, who has to be able to use
        what root creates there.
        """
        user = os.geteuid()
        return self._status.st_uid if user == ROOT else user

    @property
    def is_read_only(self) -> bool:
        """Whether nobody can change anything here, not even root."""
        return bool(os.fstatvfs(self._descriptor).f_flag & os.ST_RDONLY)

    def names(self) -> list[str]:
        """The names of all that lies in the directory, in order."""
        return sorted(os.listdir(self._descriptor))

    def has(self, name: str) -> bool:
        """Whether anything has a name, a link to nowhere included."""
        try:
            os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str, most: int) -> bytes:
        """Read a file.

        :param most: bytes
        :raises NoFile: it is not a regular file
        :raises Refused: it does not belong to the owner of these files
        """
        with open(self._opened(name, os.O_RDONLY), 'rb') as file:
            return file.read(most)

    def write(
        self,
        name: str,
        content: bytes,
        mode: int = 0o600,
        synced: bool = False,
    ) -> None:
        """Replace the content of a file, or create it, atomically.

        :param synced: the file survives a crash of the host, once this returns
        """
        with self._made(name, mode) as (draft, descriptor):
            with open(descriptor, 'wb', closefd=False) as file:
                file.write(content)
            if synced:
                os.fsync(descriptor)
            self.rename(draft, name)
        if synced:
            self.sync()

    def sync(self) -> None:
        """Have the names survive a crash of the host."""
        os.fsync(self._descriptor)

    def rename(self, name: str, other: str) -> None:
        os.rename(
            name,
            other,
            src_dir_fd=self._descriptor,
            dst_dir_fd=self._descriptor,
        )

    def remove(self, name: str) -> None:
        """Remove a name. The target of a link stays."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def remove_drafts(self, name: str) -> None:
        """Remove what a process that died while writing a file has left."""
        for each in self.names():
            if each.startswith(f'{name}.') and each.endswith(DRAFT):
                self.remove(each)

    @contextlib.contextmanager
    def locked(self, name: str, shared: bool = False) -> Iterator[None]:
        """Hold a lock file, which is created if it is missing.

        The lock belongs to the whole process (``F_SETLK``), as those of
        ``oslo_concurrency.lockutils`` do, and ends with it.

        :param shared: with others that share it, too
        :raises BlockingIOError: another process holds it
        """
        descriptor = self._lock(name)
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)

    def is_locked(self, name: str) -> bool:
        """Whether another process holds a lock file. Nothing is taken.

        A process must not ask about a lock that it holds: the kernel would
        drop the lock with the descriptor that is closed here.
        """
        try:
            descriptor = self._opened(name, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _ANYBODY)
        finally:
            os.close(descriptor)
        return bool(struct.unpack('hhqqi', found)[0] != fcntl.F_UNLCK)

    def _lock(self, name: str) -> int:
        for _ in range(_ATTEMPTS):
            try:
                return self._opened(name, os.O_RDWR)
            except FileNotFoundError:
                self._make_lock(name)
            except NoFile:
                # A name that is no regular file can't be locked by anybody.
                self.remove(name)
        raise NoFile(os.path.join(self._path, name))

    def _make_lock(self, name: str) -> None:
        """Create a lock file, which has the right owner from the beginning.

        A file that another process has created meanwhile stays, as it may be
        held. That process may have removed the draft.
        """
        if self.owner == os.geteuid():
            with contextlib.suppress(FileExistsError):
                descriptor = self._created(name)
                try:
                    os.fchmod(descriptor, 0o600)
                finally:
                    os.close(descriptor)
            return
        with self._made(name, 0o600) as (draft, _):
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(
                    draft,
                    name,
                    src_dir_fd=self._descriptor,
                    dst_dir_fd=self._descriptor,
                    follow_symlinks=False,
                )
            self.remove(draft)

    @contextlib.contextmanager
    def _made(self, name: str, mode: int) -> Iterator[tuple[str, int]]:
        """An empty file, to be renamed or removed; an error removes it."""
        draft = f'{name}.{secrets.token_hex(8)}{DRAFT}'
        descriptor = self._created(draft)
        try:
            if os.geteuid() == ROOT:
                status = self._status
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, mode)
            yield draft, descriptor
        except BaseException:
            # The error that is being raised matters more.
            with contextlib.suppress(OSError):
                self.remove(draft)
            raise
        finally:
            os.close(descriptor)

    def _created(self, name: str) -> int:
        """A new file's descriptor; its mode still depends on the umask."""
        return os.open(
            name,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW,
            0o600,
            dir_fd=self._descriptor,
        )

    def _opened(self, name: str, flags: int) -> int:
        # Inspect before opening: opening a pipe blocks, and opening a device
        # may wind a tape.
        seen = os.open(
            name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self._descriptor
        )
        try:
            self._see_is_ours(name, os.fstat(seen))
            # Reopen the file that was inspected, whatever has its name by now.
            return os.open(f'/proc/self/fd/{seen}', flags)
        finally:
            os.close(seen)

    def _see_is_ours(self, name: str, status: os.stat_result) -> None:
        path = os.path.join(self._path, name)
        if not stat.S_ISREG(status.st_mode):
            raise NoFile(path)
        # The owner of the directory is trusted: this user, or root, or anybody
        # where this user is root.
        if status.st_uid not in (self.owner, self._status.st_uid):
            raise Refused(
                path,
                f'{path} is of the user {status.st_uid}, and is to be of '
                f'{self.owner}; look at it, and then remove it, or give it '
                f'away; as root: chown -h {self.owner} {shlex.quote(path)}',
            )


def see_nobody_else_writes(
    path: str, status: os.stat_result, user: int | None = None
) -> None:
    """Check that nobody but its owner and root writes to a directory.

    Others may write to a sticky one, where they can't remove anything.

    :param user: the expected owner, unless that is root; None for us. For
        root it may be anybody
    :raises Refused: somebody else does
    """
    user = os.geteuid() if user is None else user
    quoted = shlex.quote(path)
    if user != ROOT and status.st_uid not in (user, ROOT):
        raise Refused(
            path,
            f'it is of the user {status.st_uid}, who could put anything in '
            'the place of what lies there; as root: '
            f'chown {user} {quoted}',
        )
    others = stat.S_IWGRP | stat.S_IWOTH
    if status.st_mode & others and not status.st_mode & stat.S_ISVTX:
        raise Refused(
            path,
            f'it has the mode {stat.S_IMODE(status.st_mode):o}, so that '
            'others could put anything in the place of what lies there: '
            f'chmod go-w {quoted}',
        )


@contextlib.contextmanager
def held(directory: str) -> Iterator[str]:
    """The path of an open directory, whatever comes to lie at its old path.

    Whatever comes to lie at the path that is given, or above it.
    """
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f'/proc/self/fd/{descriptor}'
    finally:
        os.close(descriptor)


def remove_file_of(user: int, path: str) -> None:
    """Remove a regular file that belongs to a user.

    :raises Refused: it is not
    """
    directory, name = os.path.split(path)
    with held(directory) as place:
        found = os.path.join(place, name)
        status = os.stat(found, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise NoFile(path)
        if status.st_uid != user:
            raise Refused(
                path, f'it is of the user {status.st_uid}, and not of {user}'
            )
        os.unlink(found)
