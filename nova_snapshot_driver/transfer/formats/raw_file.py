# SPDX-License-Identifier: Apache-2.0
"""raw, written into a file in which zeros take no room."""

from __future__ import annotations

import os


class RawFile:
    """A raw image that is being written.

    :param file: an empty file
    :param size: of the disk, in bytes
    """

    def __init__(self, file: int, size: int) -> None:
        self._file = file
        self._size = size

    def write(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._file, data, offset)
            offset += written
            data = data[written:]

    def finish(self) -> int:
        """
        :returns: the size of the file, which is on its storage then
        """
        os.ftruncate(self._file, self._size)
        os.fsync(self._file)
        return self._size
