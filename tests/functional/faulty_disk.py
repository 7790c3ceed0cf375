# SPDX-License-Identifier: Apache-2.0
"""A file whose storage is broken, or slow: QEMU's own, behind FUSE."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import fixtures

from lab.bounded import wait_until
from lab.root import as_root

PATIENCE = 10

SECTOR = 512


class FaultyDisk(fixtures.Fixture):
    """A file with the content of another one.

    :param content: the other one
    :param broken_at: the offset at which it can't be read; None for nowhere
    :param rate: bytes that can be read in a second; 0 is no limit
    :ivar path: of the file
    """

    def __init__(
        self, content: Path, broken_at: int | None = None, rate: int = 0
    ) -> None:
        super().__init__()
        self._content = content
        self._errors: dict[str, object] = {}
        if broken_at is not None:
            error = {
                'event': 'none',
                'iotype': 'read',
                'errno': errno.EIO,
                'sector': broken_at // SECTOR,
                'once': False,
            }
            self._errors = {'inject-error': [error]}
        self._rate = rate
        self.path = content.with_name(f'{content.name}.faulty')

    def _setUp(self) -> None:
        self.path.touch()
        daemon = subprocess.Popen(
            [
                'qemu-storage-daemon',
                *(
                    '--object',
                    f'throttle-group,id=pace,x-bps-read={self._rate}',
                ),
                *self._block('content', 'file', filename=str(self._content)),
                *self._block(
                    'broken',
                    'blkdebug',
                    image='content',
                    **self._errors,
                ),
                *self._block(
                    'slow',
                    'throttle',
                    file='broken',
                    **{'throttle-group': 'pace'},
                ),
                '--export',
                f'type=fuse,id=export,node-name=slow,mountpoint={self.path},'
                'writable=on',
            ]
        )
        self.addCleanup(daemon.wait, PATIENCE)
        self.addCleanup(daemon.kill)
        self.addCleanup(as_root, 'umount', '-l', self.path)
        size = self._content.stat().st_size
        wait_until(
            lambda: os.stat(self.path).st_size == size,
            'the disk that is faulty',
            PATIENCE,
        )

    @staticmethod
    def _block(name: str, driver: str, **options: object) -> tuple[str, str]:
        return '--blockdev', json.dumps(
            {'node-name': name, 'driver': driver, **options}
        )
