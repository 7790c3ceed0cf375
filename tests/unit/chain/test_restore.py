# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from typing import Any

import ddt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.chain import restore
from nova_snapshot_driver.common.new_file import NewFile
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.jobs.job import Restore
from tests.unit import tables
from tests.unit.chain_files import SIZE
from tests.unit.chain_files import WORKER
from tests.unit.chain_files import ChainFiles
from tests.unit.chain_files import do
from tests.unit.transfer import disks


@ddt.ddt
class RestoreTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.files = self.useFixture(ChainFiles())
        for name in ('a', 'b'):
            self.files.add(name)
        self.out = self.files.root / 'out'
        self.out.mkdir()

    def restore(self, name: str, image_format: str = 'qcow2') -> int:
        file = NewFile(str(self.out / 'image'), 'FILE')
        _, size = restore.restore(
            self.files.chain, name, file, image_format, WORKER
        )
        return size

    @tables.rows(
        {
            f'{name}_{image_format}': (name, image_format)
            for name in ('a', 'b')
            for image_format in ('qcow2', 'raw')
        }
    )
    def test_exact(self, name: str, image_format: str) -> None:
        size = self.restore(name, image_format)
        self.assertEqual(['image'], os.listdir(self.out))
        status = (self.out / 'image').stat()
        self.assertEqual(
            (size, 0o600), (status.st_size, status.st_mode & 0o777)
        )
        expected = self.files.root / 'expected'
        expected.write_bytes(self.files.contents[name])
        disks.assert_same(
            Layer(str(expected), 'raw'),
            Layer(str(self.out / 'image'), image_format),
        )

    def test_without_leaves(self) -> None:
        (self.files.path / 'b.leaves').unlink()
        self.restore('b', 'raw')
        self.assertEqual(
            self.files.contents['b'], (self.out / 'image').read_bytes()
        )

    def test_file_that_is_there(self) -> None:
        (self.out / 'image').write_text('mine')
        self.assertRaises(exception.OutputExists, self.restore, 'b')
        self.assertEqual('mine', (self.out / 'image').read_text())
        self.assertEqual(['image'], os.listdir(self.out))

    def test_damaged(self) -> None:
        self.files.damage('a')
        self.assertRaises(exception.DiskDamaged, self.restore, 'a')
        self.assertEqual([], os.listdir(self.out))

    def test_damaged_and_without_leaves(self) -> None:
        self.files.damage('a')
        (self.files.path / 'a.leaves').unlink()
        self.assertRaises(exception.LeavesDamaged, self.restore, 'a')
        self.assertEqual([], os.listdir(self.out))

    def test_storage_that_keeps_something_else(self) -> None:
        """The file is read again before it gets its name."""

        def run(job: Any, *arguments: Any) -> Any:
            said = do(job, *arguments)
            if isinstance(job, Restore):
                with open(job.path, 'r+b') as file:
                    file.seek(SIZE // 2)
                    file.write(b'x')
            return said

        self.patch(data_plane, 'run', run)
        with testtools.ExpectedException(
            exception.FileUnwritable, '.*does not hold what was written.*'
        ):
            self.restore('a', 'raw')
        self.assertEqual([], os.listdir(self.out))

    def test_unknown(self) -> None:
        self.assertRaises(exception.ChainSnapshotNotFound, self.restore, 'c')
