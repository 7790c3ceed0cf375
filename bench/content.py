# SPDX-License-Identifier: Apache-2.0
"""The content of a guest's disk: half random, half like text."""

import itertools
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab.bounded import run
from lab.directory import lab_directory

MIB = 1 << 20
GIB = 1 << 30

#: Bytes that are random, or like text, without a break.
BLOCK = 16 * MIB

#: Behind the partitions of the witness, which never writes there.
START = 2 * GIB

_WORDS = 4096
_WRITE_TIMEOUT = 120


def fill(disk: Path, size: int) -> None:
    """Allocate *size* bytes of a qcow2 disk that is not in use."""
    _write(disk, itertools.islice(_blocks(), size // BLOCK))


def fill_with_zeros(disk: Path, size: int) -> None:
    """Write *size* bytes of zeros to a qcow2 disk, as a guest would."""
    _write(disk, itertools.repeat(bytes(BLOCK), size // BLOCK))


def grow(disk: Path, size: int) -> None:
    """Let a qcow2 disk that is not in use have *size* bytes."""
    run(
        ['qemu-img', 'resize', '-q', '-f', 'qcow2', disk, str(size)],
        timeout=_WRITE_TIMEOUT,
    )


def _blocks() -> Iterator[bytes]:
    text = _text(random.Random(1))
    while True:
        yield os.urandom(BLOCK)
        # Repeat the block: compression looks at no more than a cluster.
        yield text


def _text(source: random.Random) -> bytes:
    """Words, which are the rarer the later they were made up."""
    letters = 'etaoinshrdlucmfwypvbgkjqxz'
    words = [
        ''.join(source.choices(letters, k=source.randint(2, 11)))
        for _ in range(_WORDS)
    ]
    weights = [1 / rank for rank in range(1, _WORDS + 1)]
    text = ' '.join(source.choices(words, weights, k=BLOCK // 4))
    return text.encode()[:BLOCK]


def _write(disk: Path, blocks: Iterator[bytes]) -> None:
    with tempfile.TemporaryDirectory(
        dir=lab_directory(), prefix='bench.'
    ) as directory:
        pattern = Path(directory) / 'block'
        for number, block in enumerate(blocks):
            pattern.write_bytes(block)
            run(
                [
                    *('qemu-io', '-f', 'qcow2', '-c'),
                    f'write -q -s {pattern} {START + number * BLOCK} {BLOCK}',
                    disk,
                ],
                timeout=_WRITE_TIMEOUT,
            )
