# SPDX-License-Identifier: Apache-2.0
"""The bytes of an image, as often as they are needed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator
from typing import Protocol

#: The bytes that are handled at once.
BLOCK = 1 << 20

_ZEROS = memoryview(bytes(BLOCK))


@dataclasses.dataclass(frozen=True)
class Zeros:
    """Zeros, which take no memory, and no space in a sparse file."""

    length: int


Piece = memoryview | Zeros


class Content(Protocol):
    """
    :ivar size: in bytes, known before the first is
    """

    @property
    def size(self) -> int: ...

    def pieces(self) -> contextlib.AbstractContextManager[Iterator[Piece]]:
        """The bytes of the image, which are the same at every call.

        A piece is valid until the next one is asked for.
        """


class File:
    """The content of a file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.size = os.path.getsize(path)

    @contextlib.contextmanager
    def pieces(self) -> Iterator[Iterator[Piece]]:
        buffer = memoryview(bytearray(BLOCK))
        with open(self._path, 'rb', buffering=0) as file:

            def read() -> Iterator[Piece]:
                while length := file.readinto(buffer):
                    yield buffer[:length]

            yield read()


@contextlib.contextmanager
def blocks(content: Content) -> Iterator[Iterator[memoryview]]:
    """Content with all its zeros spelled out."""
    with content.pieces() as pieces:

        def expand() -> Iterator[memoryview]:
            for piece in pieces:
                match piece:
                    case Zeros(length):
                        while length:
                            block = _ZEROS[:length]
                            length -= len(block)
                            yield block
                    case block:
                        yield block

        yield expand()


def digest(content: Content, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with blocks(content) as all_blocks:
        for block in all_blocks:
            digest.update(block)
    return digest.hexdigest()


class Hashed:
    """Content that is hashed as it is taken.

    A thread for the hash would gain nothing: the consumer waits for Glance,
    which hashes too, and more slowly. Meanwhile the data lie in the sockets.

    :param algorithm: as ``hashlib`` calls it
    """

    def __init__(self, content: Content, algorithm: str) -> None:
        self._content = content
        self._digest = hashlib.new(algorithm)

    def hexdigest(self) -> str:
        """The hash of the bytes that were taken."""
        return self._digest.hexdigest()

    @contextlib.contextmanager
    def blocks(self) -> Iterator[Iterator[memoryview]]:
        with blocks(self._content) as all_blocks:

            def hashed() -> Iterator[memoryview]:
                for block in all_blocks:
                    self._digest.update(block)
                    yield block

            yield hashed()
