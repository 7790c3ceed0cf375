# SPDX-License-Identifier: Apache-2.0
"""Images of real disks, as QEMU sees them."""

from __future__ import annotations

import base64
import os
import pathlib
import stat
from typing import Any

import ddt
import fixtures
import hypothesis
import tenacity
import testtools
from hypothesis import strategies

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.transfer.formats import compressed_qcow2
from nova_snapshot_driver.transfer.formats import zeros as search
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs import extract
from nova_snapshot_driver.transfer.jobs import save
from nova_snapshot_driver.transfer.jobs.job import Extract
from nova_snapshot_driver.transfer.jobs.job import Save
from nova_snapshot_driver.transfer.nbd import libnbd
from tests.unit import tables
from tests.unit.transfer import disks
from tests.unit.transfer.fake_parent import FakeParent

RAW = Encoding('raw')
QCOW2 = Encoding('qcow2')
ZSTD = Encoding('qcow2', 'zstd')
ZLIB = Encoding('qcow2', 'zlib', 9)

ENCODINGS = {
    'raw': RAW,
    'qcow2': QCOW2,
    'zstd': ZSTD,
    'zlib': ZLIB,
}

PASSPHRASE = b'two, words'

_LOAD = libnbd.load

#: Runs of clusters: how many are left out, how many there are, and of what.
RUNS = strategies.lists(
    strategies.tuples(
        strategies.integers(0, 9000),
        strategies.integers(1, 40),
        strategies.sampled_from([disks.noise, disks.text, bytes]),
    ),
    max_size=8,
)


class SaveCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.disks = self.useFixture(disks.Disks())
        self.path = self.disks.root / 'image'
        self.parent = FakeParent()

    def save(self, view: View, encoding: Encoding) -> Layer:
        result = save.run(
            job(view, encoding, self.path), disks.BOUNDS, self.parent
        )
        self.assertEqual({'size': self.path.stat().st_size}, result)
        return Layer(str(self.path), encoding.format)


def job(view: View, encoding: Encoding, path: pathlib.Path) -> Save:
    return Save(view, encoding, str(path), str(path.parent))


@ddt.ddt
class ExactTest(SaveCase):
    """An image is the disk, whatever the disk is."""

    @tables.rows(
        {
            f'{name}_{encoding}': (size, spans, ENCODINGS[encoding])
            for name, (size, spans) in {
                'no_disk': (0, []),
                'nothing': (3 * CLUSTER, []),
                'all': (5 * CLUSTER, [(0, disks.noise(5 * CLUSTER))]),
                'less_than_a_cluster': (512, [(0, b'x' * 512)]),
                'sector_more': (
                    3 * CLUSTER + 512,
                    [(2 * CLUSTER, disks.noise(CLUSTER + 512))],
                ),
                'sector_less': (
                    4 * CLUSTER - 512,
                    [(CLUSTER, disks.text(3 * CLUSTER - 512))],
                ),
                'no_sectors': (
                    2 * CLUSTER + 777,
                    [(0, b'a'), (2 * CLUSTER + 776, b'z')],
                ),
                'empty_and_large': (1 << 41, []),
                'both_ends': (
                    (1 << 40) + 512,
                    [(0, b'a'), ((1 << 40) + 511, b'z')],
                ),
            }.items()
            for encoding in ENCODINGS
        }
    )
    def test_sizes(
        self, size: int, spans: list[tuple[int, bytes]], encoding: Encoding
    ) -> None:
        disk = self.disks.raw(size, spans)
        image = self.save(disk, encoding)
        disks.assert_same(disk, image)

    @hypothesis.settings(max_examples=15, deadline=None, database=None)
    @hypothesis.given(
        runs=RUNS,
        tail=strategies.sampled_from([0, 1, 512, 4096, CLUSTER - 512]),
        encoding=strategies.sampled_from([RAW, QCOW2, ZSTD, ZLIB]),
    )
    def test_any_extents(
        self,
        runs: list[tuple[int, int, Any]],
        tail: int,
        encoding: Encoding,
    ) -> None:
        spans = []
        position = 0
        for gap, count, make in runs:
            position += gap * CLUSTER
            spans.append((position, make(count * CLUSTER)))
            position += count * CLUSTER
        disk = self.disks.raw(position + tail, spans)
        self.path.unlink(missing_ok=True)
        disks.assert_same(disk, self.save(disk, encoding))

    @tables.rows({name: (kind,) for name, kind in ENCODINGS.items()})
    def test_overlay(self, encoding: Encoding) -> None:
        """The layers beneath are part of it."""
        size = 40 * CLUSTER
        base = self.disks.raw(size, [(0, disks.text(30 * CLUSTER))])
        path = self.disks.root / 'overlay'
        disks.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw'),
            *('-b', base.path, str(path)),
        )
        for command in (f'write -P 7 {CLUSTER} {CLUSTER}', 'write -z 0 4k'):
            disks.run('qemu-io', '-f', 'qcow2', '-c', command, str(path))
        overlay = Layer(str(path), 'qcow2')
        disks.assert_same(overlay, self.save(overlay, encoding))

    @tables.rows({name: (kind,) for name, kind in ENCODINGS.items()})
    def test_content_that_claims_to_be_an_image(
        self, encoding: Encoding
    ) -> None:
        """The content is nothing but the bytes of a guest."""
        secret = self.disks.raw(CLUSTER, [(0, b'secret')], 'secret')
        path = self.disks.root / 'hostile'
        disks.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw'),
            *('-b', secret.path, str(path)),
        )
        disk = Layer(str(path), 'raw')
        image = self.save(disk, encoding)
        disks.assert_same(disk, image)
        disks.assert_same(disk, self.convert(image))

    def convert(self, image: Layer) -> Layer:
        raw = self.disks.root / 'raw'
        disks.run(
            *('qemu-img', 'convert', '-f', image.format, '-O', 'raw'),
            *(image.path, str(raw)),
        )
        return Layer(str(raw), 'raw')

    def test_export(self) -> None:
        disk = self.disks.raw(99 * CLUSTER, [(CLUSTER, disks.text(5 << 20))])
        export = self.disks.serve(disk)
        disks.assert_same(disk, self.save(export, QCOW2))

    def test_large_sectors(self) -> None:
        disk = self.disks.raw(99 * CLUSTER, [(CLUSTER, disks.text(5 << 20))])
        export = self.disks.serve_sectors(disk, 4096)
        disks.assert_same(disk, self.save(export, QCOW2))

    def test_server_that_knows_no_extents(self) -> None:
        """All of it is data then, as far as it is not zero."""
        disk = self.disks.raw(99 * CLUSTER, [(CLUSTER, disks.text(CLUSTER))])
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.transfer.nbd.libnbd.load',
                _without_extents,
            )
        )
        disks.assert_same(disk, self.save(disk, QCOW2))
        self.assertLess(self.path.stat().st_size, 10 * CLUSTER)


def _without_extents() -> Any:
    """libnbd, as it is where the server has no such thing."""
    real = _LOAD()

    class Nbd(real.NBD):  # type: ignore[misc,name-defined]
        def can_meta_context(self, _name: str) -> bool:
            return False

    class Module:
        NBD = Nbd

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    return Module()


class EncryptedTest(SaveCase):
    def setUp(self) -> None:
        super().setUp()
        self.raw = self.disks.raw(
            20 * CLUSTER, [(3 * CLUSTER, disks.text(9 * CLUSTER))]
        )
        self.secret = self.disks.root / 'passphrase'
        self.secret.write_bytes(PASSPHRASE)

    @tenacity.retry(
        # "Unable to get accurate CPU usage", on a busy machine.
        retry=tenacity.retry_if_exception_type(AssertionError),
        stop=tenacity.stop_after_attempt(3),
        reraise=True,
    )
    def convert(self, path: pathlib.Path, format_: str, options: str) -> None:
        disks.run(
            *('qemu-img', 'convert', '-f', 'raw', '-O', format_),
            *('--object', f'secret,id=key,file={self.secret}'),
            *('-o', options),
            *(self.raw.path, str(path)),
        )

    def encrypted(self, format_: str, options: str) -> Layer:
        path = self.disks.root / f'a, {format_}'
        self.convert(path, format_, options)
        self.secret.unlink()
        return Layer(
            str(path),
            'qcow2' if format_ == 'qcow2' else 'raw',
            base64.b64encode(PASSPHRASE).decode(),
        )

    def test_luks_in_qcow2(self) -> None:
        disk = self.encrypted(
            'qcow2',
            'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10',
        )
        disks.assert_same(self.raw, self.save(disk, QCOW2))
        # Where there is no libnbd, or the format is another one.
        target = Layer(str(self.disks.root / 'flat'), 'raw')
        extract.run(Extract(disk, RAW, target.path), disks.BOUNDS, self.parent)
        disks.assert_same(self.raw, target)

    def test_luks(self) -> None:
        disk = self.encrypted('luks', 'key-secret=key,iter-time=10')
        disks.assert_same(self.raw, self.save(disk, QCOW2))
        self.path.unlink()
        wrong = Layer(disk.path, disk.format, base64.b64encode(b'-').decode())
        error = self.assertRaises(
            exception.SourceUnreadable, self.save, wrong, QCOW2
        )
        self.assertIn('Invalid password', str(error))


@ddt.ddt
class SizeTest(SaveCase):
    """Clusters without data take no space."""

    def test_zeros_that_were_written(self) -> None:
        """As small as what qemu-img makes of it."""
        disk = self.disks.raw(
            256 << 20,
            [
                (0, disks.noise(3 << 20)),
                (5 * CLUSTER, bytes(77 * CLUSTER)),
                (32 << 20, bytes(64 << 20)),
                (128 << 20, disks.text(1 << 20)),
                ((129 << 20) - CLUSTER, bytes(9 * CLUSTER)),
            ],
        )
        converted = self.disks.qcow2(disk)
        self.save(disk, QCOW2)
        self.assertEqual(
            os.path.getsize(converted.path), self.path.stat().st_size
        )

    @tables.rows(
        {
            'many': ([(70, 40)], 40),
            # The search itself would find them.
            'few': ([(64, 8)], 0),
            # Where a sample of every first cluster would not be.
            'regular': ([(first + 8, 8) for first in range(0, 256, 16)], 128),
        }
    )
    def test_zeros_are_worth_the_search(
        self, zeros: list[tuple[int, int]], left_out: int
    ) -> None:
        self.useFixture(fixtures.MockPatchObject(search, 'SAMPLE', 16))
        self.useFixture(fixtures.MockPatchObject(search, 'WORTHWHILE', 0.1))
        disk = self.disks.raw(
            512 * CLUSTER,
            [
                (0, disks.noise(256 * CLUSTER)),
                *(
                    (first * CLUSTER, bytes(count * CLUSTER))
                    for first, count in zeros
                ),
            ],
        )
        disks.assert_same(disk, self.save(disk, QCOW2))
        # The image is its header and four tables.
        self.assertEqual(
            (5 + 256 - left_out) * CLUSTER, self.path.stat().st_size
        )

    @tables.rows(
        {
            'zstd_guessed': ('zstd', 150, 1.2),
            'zlib_guessed': ('zlib', 150, 1.2),
            # Small disks are measured, and not estimated.
            'zstd_known': ('zstd', 160, 1.05),
        }
    )
    def test_compressed(
        self, algorithm: str, pairs: int, factor: float
    ) -> None:
        """As small as what qemu-img makes of it, but for what was guessed."""
        self.useFixture(
            fixtures.MockPatchObject(compressed_qcow2, 'PAIRS', pairs)
        )
        disk = self.disks.raw(
            64 << 20,
            [
                (offset << 20, (disks.noise, disks.text)[offset % 2](1 << 20))
                for offset in range(0, 60, 3)
            ],
        )
        converted = self.disks.qcow2(
            disk, '-c', '-o', f'compression_type={algorithm}'
        )
        image = self.save(disk, Encoding('qcow2', algorithm))
        disks.assert_same(disk, image)
        self.assertLess(
            self.path.stat().st_size,
            factor * os.path.getsize(converted.path),
        )

    def test_raw_is_sparse(self) -> None:
        disk = self.disks.raw(
            1 << 40, [(1 << 39, b'x'), (1 << 30, bytes(4 << 20))]
        )
        self.save(disk, RAW)
        self.assertEqual(1 << 40, self.path.stat().st_size)
        self.assertLessEqual(disks.allocated(str(self.path)), 4 * CLUSTER)


class OverflowTest(SaveCase):
    """Content that could not be compressed as well as estimated."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(compressed_qcow2, 'PAIRS', 8))
        # The guess is made from what is text, and nothing else is.
        self.disk = self.disks.raw(
            64 * CLUSTER,
            [
                (index * CLUSTER, kind(CLUSTER))
                for index in range(64)
                for kind in [disks.text if index % 8 < 2 else disks.noise]
            ],
        )

    def test_begins_anew(self) -> None:
        converted = self.disks.qcow2(
            self.disk, '-c', '-o', 'compression_type=zstd'
        )
        image = self.save(self.disk, ZSTD)
        disks.assert_same(self.disk, image)
        self.assertLess(
            self.path.stat().st_size,
            os.path.getsize(converted.path) + 9 * CLUSTER,
        )
        starts = [done for done, _ in self.parent.told if done == CLUSTER]
        self.assertEqual(2, len(starts))


class OutputTest(SaveCase):
    def setUp(self) -> None:
        super().setUp()
        self.disk = self.disks.raw(CLUSTER, [(0, b'disk')])
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)

    def mode(self) -> int:
        return stat.S_IMODE(self.path.stat().st_mode)

    def test_is_for_its_owner_alone(self) -> None:
        self.save(self.disk, RAW)
        self.assertEqual(0o600, self.mode())

    def test_draft(self) -> None:
        self.path.touch(0o644)
        disks.assert_same(self.disk, self.save(self.disk, RAW))
        self.assertEqual(0o600, self.mode())

    def test_somebody_elses(self) -> None:
        self.path.write_bytes(b'mine')
        error = self.assertRaises(
            exception.OutputExists, self.save, self.disk, RAW
        )
        self.assertEqual(str(self.path), error.fields['path'])
        self.assertEqual(b'mine', self.path.read_bytes())

    def test_link(self) -> None:
        self.path.symlink_to(self.disks.root / 'elsewhere')
        self.assertRaises(
            exception.DirectoryUnusable, self.save, self.disk, RAW
        )
        self.assertFalse((self.disks.root / 'elsewhere').exists())

    def test_progress(self) -> None:
        self.save(self.disk, QCOW2)
        size = self.path.stat().st_size
        self.assertEqual((size, size), self.parent.told[-1])
        self.assertEqual(sorted(self.parent.told), self.parent.told)
