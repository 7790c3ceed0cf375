# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import pathlib

import ddt
import fixtures
import hypothesis
import testtools
from hypothesis import strategies

from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from nova_snapshot_driver.transfer.formats.qcow2_file import Qcow2File
from tests import exhaustive
from tests.unit import tables
from tests.unit.transfer import disks

#: The clusters of a chunk.
CLUSTERS = CHUNK // CLUSTER

#: The kinds of clusters of an overlay.
DATA, ZERO, INHERITED = 'data', 'zero', 'inherited'


@ddt.ddt
class Qcow2FileTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def write(
        self, name: str, size: int, kinds: dict[int, str], backing: str | None
    ) -> int:
        """Write an image whose clusters are of given kinds."""
        path = self.root / name
        with path.open('wb') as file:
            image = Qcow2File(file.fileno(), size, backing)
            for index in sorted(kinds):
                offset = index * CLUSTER
                length = min(CLUSTER, size - offset)
                if kinds[index] == DATA:
                    image.write(offset, memoryview(disks.noise(length, index)))
                elif kinds[index] == ZERO:
                    image.zero(offset, length)
            said = image.finish()
        self.assertEqual(said, path.stat().st_size)
        return said

    def check(self, name: str) -> None:
        disks.run('qemu-img', 'check', '-f', 'qcow2', str(self.root / name))

    @hypothesis.settings(
        max_examples=exhaustive.examples(12), deadline=None, database=None
    )
    @hypothesis.given(
        kinds=strategies.dictionaries(
            # Clusters of three L2 tables, with the last one of the disk.
            strategies.sampled_from(
                [*range(20), 8191, 8192, 8193, 16384, 40000]
            ),
            strategies.sampled_from([DATA, ZERO, INHERITED]),
        ),
        cut=strategies.sampled_from([0, 512, CLUSTER - 512]),
    )
    def test_any_clusters(self, kinds: dict[int, str], cut: int) -> None:
        size = 40001 * CLUSTER - cut
        base = b'b' * (20 * CLUSTER)
        with (self.root / 'expected').open('wb') as file:
            file.truncate(size)
            file.write(base)
            for index, kind in kinds.items():
                length = min(CLUSTER, size - index * CLUSTER)
                if kind != INHERITED:
                    file.seek(index * CLUSTER)
                    file.write(
                        disks.noise(length, index)
                        if kind == DATA
                        else bytes(length)
                    )
        (self.root / 'base.raw').write_bytes(base)
        os.truncate(self.root / 'base.raw', size)
        disks.run(
            *('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2'),
            *(str(self.root / 'base.raw'), str(self.root / 'base')),
        )
        self.write('overlay', size, kinds, 'base')
        self.check('overlay')
        self.assertEqual(
            'Images are identical.\n',
            disks.run(
                *('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2'),
                *(str(self.root / 'expected'), str(self.root / 'overlay')),
            ),
        )

    def test_map(self) -> None:
        """Zeros over a backing file are flagged, and take no cluster."""
        self.write('base', CHUNK, {0: DATA, 1: DATA, 2: DATA}, None)
        self.write('overlay', CHUNK, {1: ZERO, 2: DATA}, 'base')
        said = json.loads(
            disks.run(
                *('qemu-img', 'map', '--output=json', '-f', 'qcow2'),
                str(self.root / 'overlay'),
            )
        )
        self.assertEqual(
            [(0, 1, True, False), (1, 0, False, True), (2, 0, True, False)],
            [
                (
                    each['start'] // CLUSTER,
                    each['depth'],
                    each['data'],
                    each['zero'],
                )
                for each in said[:3]
            ],
        )

    def test_larger_than_its_backing_file(self) -> None:
        """A disk that has grown: its new end reads as zeros."""
        self.write('base', CLUSTER + 512, {0: DATA, 1: DATA}, None)
        self.write('overlay', 4 * CLUSTER, {3: DATA}, 'base')
        content = b''.join(
            (
                *(disks.noise(CLUSTER, 0), disks.noise(512, 1)),
                *(bytes(2 * CLUSTER - 512), disks.noise(CLUSTER, 3)),
            )
        )
        (self.root / 'expected').write_bytes(content)
        disks.run(
            *('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2'),
            *(str(self.root / 'expected'), str(self.root / 'overlay')),
        )

    @tables.rows(
        {
            'empty': (0, {}, 4),
            'without_data': (1 << 40, {}, 4),
            'full_table': (CLUSTER, {0: DATA}, 6),
        }
    )
    def test_size(self, size: int, kinds: dict[int, str], most: int) -> None:
        self.assertLessEqual(
            self.write('image', size, kinds, None), most * CLUSTER
        )
        self.check('image')

    def test_name_that_is_too_long(self) -> None:
        with testtools.ExpectedException(ValueError, '.*too long.*'):
            self.write('image', CLUSTER, {}, 'n' * 1024)

    def test_longest_name(self) -> None:
        self.write('image', CLUSTER, {}, 'n' * 1023)
        said = json.loads(
            disks.run(
                *('qemu-img', 'info', '--output=json', '-f', 'qcow2'),
                str(self.root / 'image'),
            )
        )
        self.assertEqual('n' * 1023, said['backing-filename'])
        self.assertEqual('qcow2', said['backing-filename-format'])
