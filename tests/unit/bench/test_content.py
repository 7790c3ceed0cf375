# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import tempfile
import zlib
from pathlib import Path

import testtools

from bench import content
from bench.content import BLOCK
from bench.content import MIB
from bench.content import START
from lab.bounded import run


class ContentTest(testtools.TestCase):
    def test_half_of_it_compresses(self) -> None:
        random, text = itertools.islice(content._blocks(), 2)
        self.assertEqual((BLOCK, BLOCK), (len(random), len(text)))
        self.assertGreater(_ratio(random[:MIB]), 0.99)
        self.assertLess(_ratio(text[:MIB]), 0.45)

    def test_it_is_on_the_disk(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            disk = Path(name, 'disk')
            _qemu_img('create', '-f', 'qcow2', disk, '20G')
            content.fill(disk, 2 * BLOCK)
            content.fill_with_zeros(disk, BLOCK)
            found = (
                run(['qemu-img', 'map', '-f', 'qcow2', disk], timeout=60)
                .splitlines()[1]
                .split()
            )
        # The zeros are data, in the place of the random.
        self.assertEqual(
            (START, 2 * BLOCK), (int(found[0], 16), int(found[1], 16))
        )

    def test_grow(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            disk = Path(name, 'disk')
            _qemu_img('create', '-f', 'qcow2', disk, '1G')
            content.grow(disk, 1 << 41)
            self.assertIn('2 TiB', _qemu_img('info', '-f', 'qcow2', disk))


def _ratio(block: bytes) -> float:
    return len(zlib.compress(block, 1)) / len(block)


def _qemu_img(*arguments: str | Path) -> str:
    return run(['qemu-img', *arguments], timeout=60)
