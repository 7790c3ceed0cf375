# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from pathlib import Path

import testtools

from bench.errors import BenchError
from bench.records import Images
from bench.records import VolumeSnapshots

VOLUMES = ['one', 'two']


class RecordsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.database = Path(directory.name, 'database')

    def write(self, columns: str, *rows: tuple[str | int, ...]) -> None:
        """Write a table: its name with its columns, and its rows."""
        table = columns.partition('(')[0]
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            connection.execute(f'CREATE TABLE {columns}')
            for row in rows:
                marks = ', '.join('?' * len(row))
                connection.execute(
                    f'INSERT INTO {table} VALUES ({marks})', row
                )
            connection.commit()


class ImagesTest(RecordsTest):
    def setUp(self) -> None:
        super().setUp()
        self.write(
            'images(id, status)',
            ('queued', 'queued'),
            ('active', 'active'),
            ('deleted', 'deleted'),
        )
        self.images = Images(self.database)

    def test_active(self) -> None:
        self.assertTrue(self.images.is_active('active'))

    def test_not_yet(self) -> None:
        self.assertFalse(self.images.is_active('queued'))

    def test_never(self) -> None:
        self.assertRaises(BenchError, self.images.is_active, 'deleted')


class VolumeSnapshotsTest(RecordsTest):
    def snapshots(self, *rows: tuple[str | int, ...]) -> VolumeSnapshots:
        self.write('snapshots(id, volume_id, status, deleted)', *rows)
        return VolumeSnapshots(self.database)

    def test_available(self) -> None:
        snapshots = self.snapshots(
            ('1', 'one', 'available', 0),
            ('2', 'two', 'available', 0),
            ('3', 'three', 'creating', 0),
        )
        self.assertTrue(snapshots.are_available(VOLUMES))

    def test_one_is_not_yet(self) -> None:
        snapshots = self.snapshots(
            ('1', 'one', 'available', 0), ('2', 'two', 'creating', 0)
        )
        self.assertFalse(snapshots.are_available(VOLUMES))

    def test_one_was_not_asked_for_yet(self) -> None:
        """A snapshot of an earlier run does not count."""
        snapshots = self.snapshots(
            ('1', 'one', 'available', 0), ('2', 'two', 'available', 1)
        )
        self.assertFalse(snapshots.are_available(VOLUMES))
        self.assertEqual({'1': 'available'}, snapshots.of(VOLUMES))

    def test_one_never_will_be(self) -> None:
        snapshots = self.snapshots(('1', 'one', 'error', 0))
        self.assertRaises(BenchError, snapshots.are_available, VOLUMES)
