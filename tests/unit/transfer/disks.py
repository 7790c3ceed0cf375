# SPDX-License-Identifier: Apache-2.0
"""Disks to read, and what QEMU says of the images that were made of them."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import time

import fixtures

from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import Server
from nova_snapshot_driver.transfer.nbd.bounds import Bounds

#: The seconds after which the test itself is at fault.
PATIENCE = 30

#: The bounds of a job that has none.
BOUNDS = Bounds(timeout=PATIENCE)


class Disks(fixtures.Fixture):
    """A directory with images, and with the sockets of their servers."""

    def _setUp(self) -> None:
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self._servers: list[subprocess.Popen[bytes]] = []
        self.addCleanup(self.kill_servers)

    def raw(
        self,
        size: int,
        spans: list[tuple[int, bytes]] | None = None,
        name: str = 'disk',
    ) -> Layer:
        """A raw image.

        :param spans: what is written where; all else are holes
        """
        path = self.root / name
        with path.open('wb') as file:
            file.truncate(size)
            for offset, data in spans or []:
                file.seek(offset)
                file.write(data)
        return Layer(str(path), 'raw')

    def qcow2(self, raw: Layer, *options: str, name: str = 'qcow2') -> Layer:
        """A copy of an image in qcow2."""
        path = self.root / name
        run(
            *('qemu-img', 'convert', '-f', raw.format, '-O', 'qcow2'),
            *(*options, raw.path, str(path)),
        )
        return Layer(str(path), 'qcow2')

    def torn(self, raw: Layer, offset: int) -> Layer:
        """An image with the same content, of which a sector can't be read."""
        rules = self.root / 'rules'
        rules.write_text(
            '[inject-error]\nevent = "none"\niotype = "read"\n'
            f'errno = "5"\nsector = "{offset // 512}"\n'
        )
        return Layer(f'blkdebug:{rules}:{raw.path}', raw.format)

    def serve_sectors(self, raw: Layer, size: int) -> Export:
        """Have a server for an image whose sectors have some size."""
        return self._serve(
            raw,
            *(
                '--image-opts',
                f'driver=raw,file.driver=blkdebug,'
                f'file.align={size},file.image.driver=file,'
                f'file.image.filename={raw.path}',
            ),
        )

    def serve(self, image: Layer, bitmap: str | None = None) -> Export:
        """Have a server of its own for an image.

        :param bitmap: of a qcow2 image, which is exported with it
        """
        with_bitmap = ['-B', bitmap] if bitmap else []
        return dataclasses.replace(
            self._serve(image, *with_bitmap, '-f', image.format, image.path),
            bitmap=bitmap,
        )

    def _serve(self, image: Layer, *arguments: str) -> Export:
        socket = self.root / f'socket-{len(self._servers)}'
        self._servers.append(
            subprocess.Popen(
                [
                    *('qemu-nbd', '--read-only', '--persistent', '-t'),
                    *('-k', str(socket), '-x', 'vda', *arguments),
                ]
            )
        )
        deadline = time.monotonic() + PATIENCE
        while not socket.exists():
            if time.monotonic() > deadline:
                raise AssertionError('the server does not come')
            time.sleep(0.01)
        return Export(
            str(socket),
            'vda',
            virtual_size(image),
            Inode.of(os.stat(socket)),
            Server(os.geteuid(), ('-k', str(socket))),
        )

    def kill_servers(self) -> None:
        for server in self._servers:
            server.send_signal(signal.SIGKILL)
            server.wait()

    def stop_servers(self) -> None:
        """Have them answer no more, and be there."""
        for server in self._servers:
            server.send_signal(signal.SIGSTOP)


def virtual_size(image: Layer) -> int:
    """The size of a disk, as its guest would see it."""
    if image.format != 'raw':
        said = run(
            *('qemu-img', 'info', '--output=json', '-f', image.format),
            image.path,
        )
        return int(json.loads(said)['virtual-size'])
    _, _, path = image.path.rpartition(':')
    return -(-os.path.getsize(path) // 512) * 512


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that can't be compressed."""
    return random.Random(seed).randbytes(size)


def text(size: int) -> bytes:
    """Bytes that can be compressed."""
    lines = b''.join(b'%d: the same again\n' % i for i in range(4096))
    return (lines * (size // len(lines) + 1))[:size]


def run(*command: str) -> str:
    """The output of a command, which has to succeed."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise AssertionError(
            f'{command} ended with {result.returncode}: '
            f'{result.stdout}{result.stderr}'
        )
    return result.stdout


def assert_same(disk: Layer, image: Layer) -> None:
    """Whether an image is whole, and holds what the disk does."""
    if image.format == 'qcow2':
        run('qemu-img', 'check', '-f', 'qcow2', image.path)
    said = run(
        *('qemu-img', 'compare', '-f', disk.format, '-F', image.format),
        *(disk.path, image.path),
    )
    if 'Warning' in said:
        raise AssertionError(said)


def allocated(path: str) -> int:
    return os.stat(path).st_blocks * 512
