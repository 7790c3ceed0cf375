# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a chain, restored, verified and hashed anew."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any
from typing import TypeVar

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import landlock
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from nova_snapshot_driver.transfer.jobs import hash as hashing
from nova_snapshot_driver.transfer.jobs import increment
from nova_snapshot_driver.transfer.jobs import restore
from nova_snapshot_driver.transfer.jobs import verify
from nova_snapshot_driver.transfer.jobs.job import Hash
from nova_snapshot_driver.transfer.jobs.job import Increment
from nova_snapshot_driver.transfer.jobs.job import Job
from nova_snapshot_driver.transfer.jobs.job import Restore
from nova_snapshot_driver.transfer.jobs.job import Verdict
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.jobs.job_fields import Base
from tests.unit import tables
from tests.unit.transfer import disks
from tests.unit.transfer.fake_parent import FakeParent

T = TypeVar('T')

SIZE = 5 * CHUNK + 512


class RecordedCase(testtools.TestCase):
    """A chain of two snapshots: the second has changes in two chunks."""

    def setUp(self) -> None:
        super().setUp()
        self.disks = self.useFixture(disks.Disks())
        self.root = self.disks.root
        self.parent = FakeParent()
        first = bytearray(disks.noise(SIZE))
        first[2 * CHUNK : 3 * CHUNK] = bytes(CHUNK)
        self.first = self.disks.raw(SIZE, [(0, bytes(first))], 'first')
        second = bytearray(first)
        second[CHUNK : CHUNK + CLUSTER] = bytes(CLUSTER)
        second[-512:] = b'n' * 512
        self.second = self.disks.raw(SIZE, [(0, bytes(second))], 'second')
        self.bottom = Layer(self.path('a.qcow2'), 'qcow2', is_last=True)
        self.layer = Layer(self.path('b.qcow2'), 'qcow2', backing=self.bottom)
        base = Base(SIZE, self.path('a.leaves'), self.add('a', None))
        self.tree = self.add('b', base)

    def path(self, name: str) -> str:
        return str(self.root / name)

    def add(self, name: str, base: Base | None) -> Any:
        job = Increment(
            self.second if base else self.first,
            base,
            'a.qcow2' if base else None,
            self.path(f'{name}.qcow2'),
            self.path(f'{name}.leaves'),
            str(self.root),
        )
        return increment.run(job, disks.BOUNDS, self.parent)['tree']

    def damage(self, name: str, offset: int) -> None:
        """Change a byte of the disk in an image, and nothing else of it."""
        disks.run(
            *('qemu-io', '-f', 'qcow2', '-c', f'write -P 255 {offset} 1'),
            self.path(f'{name}.qcow2'),
        )


@ddt.ddt
class RestoreTest(RecordedCase):
    def job(self, **changes: Any) -> Restore:
        job = Restore(
            view=self.layer,
            leaves=self.path('b.leaves'),
            tree=self.tree,
            size=SIZE,
            format='qcow2',
            path=self.path('restored'),
            directory=str(self.root),
        )
        return dataclasses.replace(job, **changes)

    def restore(self, **changes: Any) -> dict[str, Any]:
        return restore.run(self.job(**changes), disks.BOUNDS, self.parent)

    @tables.rows({'qcow2': ('qcow2',), 'raw': ('raw',)})
    def test_exact(self, image_format: str) -> None:
        said = self.restore(format=image_format)
        path = pathlib.Path(self.path('restored'))
        self.assertEqual({'size': path.stat().st_size}, said)
        disks.assert_same(self.second, Layer(str(path), image_format))
        # Zeros take no room.
        self.assertLess(
            disks.allocated(str(path)), 4 * CHUNK + CHUNK // 2 + 6 * CLUSTER
        )
        self.assertEqual((6 * CHUNK, 6 * CHUNK), self.parent.told[-1])

    def test_needs_no_other_image(self) -> None:
        self.restore()
        said = disks.run(
            *('qemu-img', 'info', '-f', 'qcow2', self.path('restored'))
        )
        self.assertNotIn('backing', said)

    @tables.rows({'own': ('b', CHUNK), 'inherited': ('a', 4 * CHUNK)})
    def test_damaged(self, name: str, offset: int) -> None:
        self.damage(name, offset)
        error = self.assertRaises(exception.DiskDamaged, self.restore)
        self.assertEqual(offset, error.fields['offset'])

    def test_size_that_another_wrote(self) -> None:
        disks.run(
            *('qemu-img', 'resize', '-q', '-f', 'qcow2', self.layer.path),
            str(SIZE + 512),
        )
        with testtools.ExpectedException(
            exception.SourceUnreadable, f'.*{SIZE + 512}.*{SIZE}.*'
        ):
            self.restore()

    def test_no_such_format(self) -> None:
        self.assertRaises(ValueError, self.restore, format='vmdk')


@ddt.ddt
class VerifyTest(RecordedCase):
    def verify(self, **changes: Any) -> dict[str, Any]:
        job = Verify(
            view=self.layer,
            leaves=self.path('b.leaves'),
            tree=self.tree,
            size=SIZE,
            base_leaves=None,
            directory=str(self.root),
        )
        return verify.run(
            dataclasses.replace(job, **changes), disks.BOUNDS, self.parent
        )

    def test_intact(self) -> None:
        self.assertEqual({'damaged': 0, 'offsets': []}, self.verify())
        self.assertEqual((6 * CHUNK, 6 * CHUNK), self.parent.told[-1])

    @tables.rows(
        {
            'own': ('b', CHUNK + 5),
            'end': ('b', SIZE - 1),
            'inherited': ('a', 3 * CHUNK),
            'zeros': ('a', 2 * CHUNK),
        }
    )
    def test_damaged(self, name: str, offset: int) -> None:
        self.damage(name, offset)
        self.assertEqual(
            {'damaged': 1, 'offsets': [offset // CHUNK * CHUNK]},
            self.verify(),
        )

    def test_first_ones_are_named(self) -> None:
        for index in range(6):
            self.damage('b', index * CHUNK)
        self.useFixture(fixtures.MockPatchObject(verify, 'NAMED', 2))
        self.assertEqual(
            {'damaged': 6, 'offsets': [0, CHUNK]},
            self.verify(),
        )

    def test_changes_alone(self) -> None:
        """A new increment is proven without a look at what it inherits."""
        base = self.path('a.leaves')
        self.damage('a', 3 * CHUNK)
        self.assertEqual(
            {'damaged': 0, 'offsets': []}, self.verify(base_leaves=base)
        )
        self.assertEqual((2 * CHUNK, 2 * CHUNK), self.parent.told[-1])
        self.damage('b', CHUNK)
        self.assertEqual(1, self.verify(base_leaves=base)['damaged'])

    @tables.rows(
        {
            'leaves': (lambda path: path.write_bytes(bytes(6 * 32)),),
            'length': (lambda path: path.write_bytes(b''),),
            'missing': (pathlib.Path.unlink,),
        }
    )
    def test_leaves(self, change: Callable[[pathlib.Path], Any]) -> None:
        change(self.root / 'b.leaves')
        self.assertRaises(exception.LeavesDamaged, self.verify)

    def test_missing_image(self) -> None:
        (self.root / 'a.qcow2').unlink()
        with testtools.ExpectedException(
            exception.SourceUnreadable, '.*a.qcow2.*'
        ):
            self.verify()


class ProcessTest(RecordedCase):
    """Jobs in the process of the data plane, which is confined."""

    def run_job(self, job: Job[T]) -> T:
        limits = data_plane.Limits(disks.PATIENCE)
        return data_plane.run(job, limits, silent, Cancellation())

    def test_whole_way(self) -> None:
        own = self.root / 'own'
        own.mkdir()
        written = self.run_job(
            Increment(
                self.disks.serve(self.second),
                Base(SIZE, self.path('b.leaves'), self.tree),
                'b.qcow2',
                self.path('c.qcow2'),
                self.path('c.leaves'),
                str(own),
            )
        )
        self.assertEqual((0, self.tree), (written.changed, written.tree))
        layer = Layer(self.path('c.qcow2'), 'qcow2', backing=self.layer)
        recorded = (self.path('c.leaves'), written.tree, SIZE)
        self.assertEqual(
            Verdict(0, ()),
            self.run_job(Verify(layer, *recorded, None, str(own))),
        )
        out = self.root / 'out'
        out.mkdir()
        image = str(out / 'image')
        self.run_job(Restore(layer, *recorded, 'raw', image, str(own)))
        disks.assert_same(self.second, Layer(image, 'raw'))
        self.assertEqual(
            self.tree,
            self.run_job(Hash(layer, str(out / 'leaves'), str(own))),
        )
        self.assertEqual([], list(own.iterdir()))

    def test_data_file_of_the_host(self) -> None:
        """An image of a stranger names a file that only this user may read."""
        secret = self.root / 'secret' / 'file'
        secret.parent.mkdir()
        secret.write_bytes(disks.noise(SIZE))
        disks.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-o', f'data_file={secret},data_file_raw=on'),
            *(self.path('b.qcow2'), str(SIZE)),
        )
        # The command has emptied it.
        secret.write_bytes(disks.noise(SIZE))
        alone = Layer(self.path('b.qcow2'), 'qcow2', is_last=True)
        out = self.root / 'out'
        out.mkdir()
        job = Hash(alone, str(out / 'leaves'), str(out))
        if not landlock.version():
            self.skipTest('this kernel has no Landlock')
        with testtools.ExpectedException(
            exception.SourceUnreadable, '.*Permission denied.*'
        ):
            self.run_job(job)


class HashTest(RecordedCase):
    def test_leaves_of_an_image(self) -> None:
        job = Hash(self.layer, self.path('again'), str(self.root))
        (self.root / 'again').write_bytes(b'x' * 999)
        said = hashing.run(job, disks.BOUNDS, self.parent)
        self.assertEqual({'tree': self.tree}, said)
        self.assertEqual(
            (self.root / 'b.leaves').read_bytes(),
            (self.root / 'again').read_bytes(),
        )
        self.assertEqual((6 * CHUNK, 6 * CHUNK), self.parent.told[-1])
