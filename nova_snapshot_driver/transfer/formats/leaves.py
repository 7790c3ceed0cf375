# SPDX-License-Identifier: Apache-2.0
"""The leaves of a disk: the SHA-256 of each of its chunks, in a file.

The hash over all leaves vouches for them: it is in the record of a snapshot.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator

from nova_snapshot_driver import exception

#: The bytes of the disk that a leaf is the hash of. The last chunk of a disk
#: may be shorter.
CHUNK = 1 << 20

#: The bytes of a leaf.
LEAF = 32

#: The bytes of a file that are read at once.
_BLOCK = 1 << 20


def count(size: int) -> int:
    """The number of chunks of a disk."""
    return -(-size // CHUNK)


def length(index: int, size: int) -> int:
    """The bytes of a chunk of a disk."""
    return min(CHUNK, size - index * CHUNK)


def leaf(data: memoryview) -> bytes:
    return hashlib.sha256(data).digest()


@functools.lru_cache(maxsize=2)
def leaf_of_zeros(length: int) -> bytes:
    return leaf(memoryview(bytes(length)))


class Leaves:
    """The leaves in an open file.

    :param path: for errors
    """

    def __init__(self, file: int, path: str) -> None:
        self._file = file
        self._path = path

    def __getitem__(self, index: int) -> bytes:
        """The leaf of a chunk; nothing after the last one."""
        return os.pread(self._file, LEAF, index * LEAF)

    def __setitem__(self, index: int, leaf: bytes) -> None:
        os.pwrite(self._file, leaf, index * LEAF)

    def tree(self, size: int) -> str:
        """The hash of all leaves, and of the size of the disk."""
        digest = hashlib.sha256()
        for block in self._blocks():
            digest.update(block)
        digest.update(size.to_bytes(8, 'big'))
        return digest.hexdigest()

    def check(self, size: int, tree: str) -> None:
        """
        :raises LeavesDamaged: they are not those of a disk
        """
        found, expected = os.fstat(self._file).st_size, count(size) * LEAF
        if found != expected:
            raise exception.LeavesDamaged(
                path=self._path,
                reason=f'the file has {found} bytes, and not {expected}',
            )
        if self.tree(size) != tree:
            raise exception.LeavesDamaged(
                path=self._path, reason='they do not have the recorded hash'
            )

    def copy_to(self, other: Leaves) -> None:
        """Write all leaves to an empty file."""
        position = 0
        for block in self._blocks():
            position += os.pwrite(other._file, block, position)

    def sync(self) -> None:
        os.fsync(self._file)

    def _blocks(self) -> Iterator[bytes]:
        position = 0
        while block := os.pread(self._file, _BLOCK, position):
            position += len(block)
            yield block


@contextlib.contextmanager
def opened(path: str) -> Iterator[Leaves]:
    """
    :raises LeavesDamaged: the file can't be opened
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise exception.LeavesDamaged(
            path=path, reason=error.strerror
        ) from error
    try:
        yield Leaves(file, path)
    finally:
        os.close(file)
