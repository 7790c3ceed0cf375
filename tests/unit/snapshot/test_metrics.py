# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import os
import pathlib
import stat
import sys
import time
from importlib import metadata
from unittest import mock

import ddt
import fixtures
import testtools
from prometheus_client import parser
from prometheus_client.samples import Sample

from nova_snapshot_driver import exception
from nova_snapshot_driver.snapshot import metrics
from nova_snapshot_driver.snapshot.destination.base import IncrementProof
from nova_snapshot_driver.snapshot.metrics import TextFile
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.snapshot.result import TakenDisk
from tests.unit import tables

#: How long the thread that writes may take, in seconds.
PATIENCE = 10

#: In this order.
LABELS = ('method', 'way', 'code', 'le', 'version')

TAKEN = Snapshot(
    domain='web-1',
    uuid='8a6f3f5e',
    method='backup',
    method_reason='the guest is running',
    streamed=True,
    streamed_reason='libnbd is there',
    quiesced=True,
    quiesced_reason='by the guest agent',
    disks=(TakenDisk('vda', 8192, 'raw', 'qcow2', 4096, '0' * 128),),
    seconds={'prepare': 0.5, 'stream': 11.0},
    stall_seconds=0.2,
)


def labels_of(sample: Sample) -> list[str]:
    return [sample.labels[name] for name in LABELS if name in sample.labels]


class MetricsCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())
        root = self.useFixture(fixtures.TempDir()).path
        self.path = pathlib.Path(root) / 'nova_snapshot.prom'

    def values(self) -> dict[str, float]:
        """Every sample of the file, by its name and labels."""
        return {
            ' '.join([sample.name, *labels_of(sample)]): (sample.value)
            for family in parser.text_string_to_metric_families(
                self.path.read_text()
            )
            for sample in family.samples
        }

    def wait_for(self, name: str, value: float) -> dict[str, float]:
        deadline = time.monotonic() + PATIENCE
        found: dict[str, float] = {}
        while found.get(name) != value:
            if time.monotonic() > deadline:
                raise AssertionError(f'{name} is not {value}: {found}')
            time.sleep(0.005)
            if self.path.exists():
                found = self.values()
        return found


@ddt.ddt
class CountTest(MetricsCase):
    def setUp(self) -> None:
        super().setUp()
        self.metrics = metrics.of(str(self.path))

    def strike(self, error: BaseException, path: str | None = None) -> None:
        try:
            with self.metrics.counted() as tally:
                if path is not None:
                    tally.method = path
                raise error
        except BaseException as raised:
            self.assertIs(error, raised)

    def test_begin(self) -> None:
        """Each counter starts at 0, so that the first event is seen."""
        found = self.wait_for('nova_snapshot_running', 0)
        for path in ('direct', 'backup', 'mirror', 'cold', 'volumes'):
            self.assertEqual(0, found[f'nova_snapshot_done_total {path}'])
            self.assertEqual(0, found[f'nova_snapshot_bytes_total {path}'])
            for name in ('duration', 'stall'):
                self.assertEqual(
                    0, found[f'nova_snapshot_{name}_seconds_count {path}']
                )
        for way in ('bitmap', 'compare', 'full'):
            for name in ('increments', 'changed_bytes'):
                self.assertEqual(0, found[f'nova_snapshot_{name}_total {way}'])
        self.assertEqual(0, found['nova_snapshot_recovered_total'])
        self.assertEqual(0, found['nova_snapshot_left_to_nova_total'])

    def test_running(self) -> None:
        with self.metrics.counted(), self.metrics.counted():
            self.wait_for('nova_snapshot_running', 2)
        self.wait_for('nova_snapshot_running', 0)

    def test_taken(self) -> None:
        with self.metrics.counted() as tally:
            tally.snapshot = TAKEN
        found = self.wait_for('nova_snapshot_done_total backup', 1)
        self.assertEqual(4096, found['nova_snapshot_bytes_total backup'])
        self.assertEqual(
            11.5, found['nova_snapshot_duration_seconds_sum backup']
        )
        self.assertEqual(0.2, found['nova_snapshot_stall_seconds_sum backup'])
        self.assertFalse([name for name in found if '_failed_total' in name])

    def test_increment(self) -> None:
        increment = IncrementProof(
            *('tuesday', 'monday', 'bitmap', 'why', 'why', 65536, 4096, 't')
        )
        [disk] = TAKEN.disks
        with self.metrics.counted() as tally:
            tally.snapshot = dataclasses.replace(
                TAKEN, disks=(dataclasses.replace(disk, increment=increment),)
            )
        found = self.wait_for('nova_snapshot_increments_total bitmap', 1)
        self.assertEqual(
            65536, found['nova_snapshot_changed_bytes_total bitmap']
        )
        self.assertEqual(0, found['nova_snapshot_increments_total compare'])

    def test_failed(self) -> None:
        self.strike(exception.DomainBusy(domain='web-1'))
        self.strike(exception.DeadlineExceeded(seconds=9), 'mirror')
        found = self.wait_for(
            'nova_snapshot_failed_total mirror deadline-exceeded', 1
        )
        self.assertEqual(
            1, found['nova_snapshot_failed_total none domain-busy']
        )
        self.assertEqual(0, found['nova_snapshot_done_total mirror'])

    @tables.rows(
        {
            error.code: (error,)
            for error in (
                exception.Cancelled,
                exception.CancelledByOperator,
                exception.CancelledByStop,
            )
        }
    )
    def test_cancelled(self, error: type[exception.Cancelled]) -> None:
        """Somebody wanted it so: it has not failed."""
        self.strike(error(reason='SIGTERM'), 'mirror')
        found = self.wait_for(
            f'nova_snapshot_cancelled_total mirror {error.code}', 1
        )
        self.assertFalse([name for name in found if '_failed_total' in name])
        self.assertEqual(0, found['nova_snapshot_done_total mirror'])

    def test_version(self) -> None:
        version = metadata.version('nova-snapshot-driver')
        self.wait_for(f'nova_snapshot_driver_info {version}', 1)

    def test_version_of_a_checkout(self) -> None:
        """A checkout in the path of Python is not installed."""
        self.useFixture(
            fixtures.MockPatchObject(
                metadata, 'version', side_effect=metadata.PackageNotFoundError
            )
        )
        self.path = self.path.with_name('another.prom')
        self.metrics = TextFile(str(self.path))
        self.wait_for('nova_snapshot_driver_info unknown', 1)

    def test_first_failure_of_its_kind(self) -> None:
        """The series begins at 1: its time of creation shows the increase."""
        before = time.time()
        self.strike(exception.DomainBusy(domain='web-1'))
        found = self.wait_for('nova_snapshot_failed_total none domain-busy', 1)
        began = found['nova_snapshot_failed_created none domain-busy']
        self.assertTrue(before <= began <= time.time(), began)

    def test_error_that_is_not_ours(self) -> None:
        self.strike(KeyError('x'), 'cold')
        self.strike(KeyboardInterrupt(), 'cold')
        self.wait_for('nova_snapshot_failed_total cold other', 2)

    def test_others(self) -> None:
        self.metrics.healed()
        self.metrics.left_to_nova()
        self.metrics.left_to_nova()
        found = self.wait_for('nova_snapshot_left_to_nova_total', 2)
        self.assertEqual(1, found['nova_snapshot_recovered_total'])


class TextFileTest(MetricsCase):
    def test_readable_for_all(self) -> None:
        self.addCleanup(os.umask, os.umask(0o077))
        metrics.of(str(self.path))
        self.wait_for('nova_snapshot_running', 0)
        self.assertEqual(0o644, stat.S_IMODE(self.path.stat().st_mode))
        self.assertEqual([self.path.name], os.listdir(self.path.parent))

    def test_directory_that_is_gone(self) -> None:
        """Nobody waits for the file, and the log says it once."""
        self.path = self.path.parent / 'missing' / 'nova_snapshot.prom'
        counting = metrics.of(str(self.path))
        deadline = time.monotonic() + PATIENCE
        while 'cannot be written' not in self.log.output:
            self.assertLess(time.monotonic(), deadline)
            with counting.counted() as tally:
                tally.snapshot = TAKEN
        self.path.parent.mkdir()
        with counting.counted():
            pass
        self.wait_for('nova_snapshot_running', 0)
        self.assertEqual(1, self.log.output.count('cannot be written'))

    def test_disk_that_hangs(self) -> None:
        held = fixtures.MockPatchObject(
            TextFile, '_write', lambda _self: time.sleep(PATIENCE)
        )
        self.useFixture(held)
        began = time.monotonic()
        counting = metrics.of(str(self.path))
        for _ in range(100):
            with counting.counted() as tally:
                tally.snapshot = TAKEN
        self.assertLess(time.monotonic() - began, PATIENCE / 2)


@ddt.ddt
class NoMetricsTest(MetricsCase):
    def without_library(self) -> None:
        missing = mock.patch.dict(sys.modules, {'prometheus_client': None})
        missing.start()
        self.addCleanup(missing.stop)

    @tables.rows({'option': (False,), 'library': (True,)})
    def test_nothing_is_counted(self, wanted: bool) -> None:
        if wanted:
            self.without_library()
        counting = metrics.of(str(self.path) if wanted else None)
        with counting.counted() as tally:
            tally.method = 'backup'
            tally.snapshot = TAKEN
        counting.healed()
        counting.left_to_nova()
        self.assertEqual([], os.listdir(self.path.parent))
        self.assertEqual(wanted, 'There are no metrics' in self.log.output)

    def test_library_is_missing(self) -> None:
        self.without_library()
        error = self.assertRaises(exception.MetricsUnavailable, metrics.client)
        self.assertIn('nova-snapshot-driver[metrics]', str(error))
