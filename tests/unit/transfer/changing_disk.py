# SPDX-License-Identifier: Apache-2.0
"""A disk that changes between its snapshots, as that of a guest."""

from __future__ import annotations

import pathlib

from hypothesis import strategies

from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from tests.unit.transfer import disks

#: A write to a disk: where, how much, and of what; None is a discard.
Write = tuple[int, int, int | None]

WRITES = strategies.lists(
    strategies.tuples(
        strategies.integers(0, 5 * CHUNK),
        strategies.sampled_from([1, 512, 4096, CLUSTER, 3 * CLUSTER, CHUNK]),
        strategies.sampled_from([None, 0, 1, 2, 3]),
    ),
    max_size=5,
)


class ChangingDisk:
    """A qcow2 image with dirty bitmaps, as that of a guest."""

    def __init__(self, path: pathlib.Path, content: bytes) -> None:
        self.content = bytearray(content)
        self.layer = Layer(str(path), 'qcow2')
        disks.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *(str(path), str(len(content))),
        )
        source = path.with_suffix('.content')
        source.write_bytes(content)
        disks.run(
            *('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'qcow2'),
            *(str(source), str(path)),
        )

    def begin(self, bitmap: str) -> None:
        """Have a bitmap record the changes from now on."""
        disks.run('qemu-img', 'bitmap', '--add', self.layer.path, bitmap)

    def write(self, writes: list[Write]) -> None:
        commands = []
        for offset, length, pattern in writes:
            begin = min(offset, len(self.content))
            end = min(offset + length, len(self.content))
            if begin == end:
                continue
            self.content[begin:end] = bytes([pattern or 0]) * (end - begin)
            kind = 'write -z -u' if pattern is None else f'write -P {pattern}'
            commands += ['-c', f'{kind} {begin} {end - begin}']
        if commands:
            disks.run('qemu-io', '-f', 'qcow2', *commands, self.layer.path)

    def grow(self, size: int) -> None:
        self.content.extend(bytes(size - len(self.content)))
        disks.run(
            *('qemu-img', 'resize', '-q', '-f', 'qcow2'),
            *(self.layer.path, str(size)),
        )
