# SPDX-License-Identifier: Apache-2.0
"""A file system of a few MiB, to run out of space on."""

from __future__ import annotations

import os
from pathlib import Path

import fixtures

from lab.root import as_root


class SmallFileSystem(fixtures.Fixture):
    """Mounted on a directory, as root or with sudo.

    :param size: MiB
    """

    def __init__(self, mount_point: Path, size: int) -> None:
        self.mount_point = mount_point
        self._size = size
        self._filler = mount_point / 'filler'

    def _setUp(self) -> None:
        self.mount_point.mkdir()
        owner = f'uid={os.geteuid()},mode=0755'
        as_root(
            *('mount', '-t', 'tmpfs', '-o', f'size={self._size}m,{owner}'),
            *('tmpfs', self.mount_point),
        )
        self.addCleanup(as_root, 'umount', '-l', self.mount_point)

    def fill_all_but(self, size: int) -> None:
        """
        :param size: MiB that stay free
        """
        with self._filler.open('wb') as file:
            status = os.statvfs(self.mount_point)
            free = status.f_bavail * status.f_frsize
            os.posix_fallocate(file.fileno(), 0, free - (size << 20))

    def fill(self) -> None:
        """Leave nothing free."""
        with self._filler.open('wb', buffering=0) as file:
            for size in (1 << 20, 4096):
                self._write_until_full(file.fileno(), b'\xaa' * size)

    def empty(self) -> None:
        self._filler.unlink(missing_ok=True)

    @staticmethod
    def _write_until_full(descriptor: int, block: bytes) -> None:
        try:
            while True:
                os.write(descriptor, block)
        except OSError:
            return
