# SPDX-License-Identifier: Apache-2.0
"""A small disk for the temporary files of nova-compute."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import fixtures

from lab.bounded import run
from lab.cloud.cloud import Cloud

_TIMEOUT = 60


class SmallDisk(fixtures.Fixture):
    """Mounted on a directory, for nova-compute and for libvirt.

    libvirt has a mount namespace of its own, and so has QEMU: a tmpfs could
    not be mounted in both.

    :param image: a file that is made for it
    :param mount_point: made if it is missing
    :param size: MiB
    """

    def __init__(
        self, cloud: Cloud, image: Path, mount_point: Path, size: int
    ) -> None:
        self._cloud = cloud
        self._image = image
        self._mount_point = mount_point
        self._size = size
        self._filler = mount_point / 'filler'

    def _setUp(self) -> None:
        self._mount_point.mkdir(parents=True, exist_ok=True)
        with self._image.open('wb') as file:
            file.truncate(self._size << 20)
        self.addCleanup(self._image.unlink)
        # Nothing is reserved for root, which nova-compute is here.
        _run('mkfs.ext4', '-q', '-m', '0', self._image)
        device = _run('losetup', '--find', '--show', self._image).strip()
        self.addCleanup(_run, 'losetup', '--detach', device)
        libvirtd = self._cloud.services['libvirtd'].pid
        for inside in ((), ('nsenter', f'--target={libvirtd}', '--mount')):
            _run(*inside, 'mount', device, self._mount_point)
            self.addCleanup(
                _run, *inside, 'umount', '--lazy', self._mount_point
            )
        (self._mount_point / 'lost+found').rmdir()

    def fill(self) -> None:
        """Leave nothing free."""
        free = os.statvfs(self._mount_point)
        with (
            self._filler.open('wb', buffering=0) as file,
            contextlib.suppress(OSError),
        ):
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
            # The file system keeps a reserve, so a part of the disk is free.
            file.seek(0, os.SEEK_END)
            while True:
                file.write(bytes(4096))

    def empty(self) -> None:
        self._filler.unlink(missing_ok=True)


def _run(*argv: str | Path) -> str:
    return run(argv, timeout=_TIMEOUT)
