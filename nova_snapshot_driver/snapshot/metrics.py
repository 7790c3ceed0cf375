# SPDX-License-Identifier: Apache-2.0
"""The metrics of nova-compute's snapshots, for Prometheus.

The textfile collector of node_exporter reads them from a file. A snapshot
neither fails nor waits because of the file: a thread of its own writes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import version
from nova_snapshot_driver.common.private_files import Directory
from nova_snapshot_driver.common.way import Way
from nova_snapshot_driver.snapshot.plan.model import Method
from nova_snapshot_driver.snapshot.result import Snapshot

LOG = logging.getLogger(__name__)

#: The method of a snapshot that failed before it had one.
NO_METHOD = 'none'

#: The code of an error of others, such as Nova's for an unexpected task state.
FOREIGN = 'other'

#: The upper bounds of the histograms, in seconds.
DURATIONS = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 43200)
STALLS = (0.05, 0.1, 0.3, 1, 3, 10, 30, 60, 300, 1800)


@dataclasses.dataclass
class Tally:
    """The facts about one snapshot, collected while it is taken.

    :ivar method: the method in use, or tried last
    :ivar snapshot: set once it has succeeded
    """

    method: str = NO_METHOD
    snapshot: Snapshot | None = None


class Metrics:
    """Metrics that nobody collects: nothing is counted."""

    @contextlib.contextmanager
    def counted(self) -> Iterator[Tally]:
        """Count the snapshot that is taken in the context."""
        yield Tally()

    def healed(self) -> None:
        """Count a dead snapshot of which nothing is left."""

    def left_to_nova(self) -> None:
        """Count a snapshot that Nova's own driver takes."""


def of(path: str | None) -> Metrics:
    """The metrics of this process; of no effect without a file.

    :param path: ``[snapshot] metrics_file``
    """
    if path is None:
        return Metrics()
    try:
        return TextFile(path)
    except exception.MetricsUnavailable as error:
        LOG.warning('%s', error)
        return Metrics()


def client() -> ModuleType:
    """The library of Prometheus.

    :raises MetricsUnavailable: there is none
    """
    try:
        import prometheus_client
    except ImportError as error:
        raise exception.MetricsUnavailable(reason=str(error)) from error
    return prometheus_client


class TextFile(Metrics):
    """Metrics of one process, from its start on, in a file.

    :raises MetricsUnavailable: the library of Prometheus is missing
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._client = client()
        self._registry = self._client.CollectorRegistry()
        self._client.Info(
            'nova_snapshot_driver',
            'The driver of this nova-compute.',
            registry=self._registry,
        ).info({'version': version.installed()})
        self._running = self._client.Gauge(
            'nova_snapshot_running',
            'Snapshots that are being taken.',
            registry=self._registry,
        )
        self._done = self._counter(
            'done', 'Snapshots that were taken.', 'method'
        )
        self._failed = self._counter(
            'failed', 'Snapshots that have failed.', 'method', 'code'
        )
        self._cancelled = self._counter(
            'cancelled', 'Snapshots that were cancelled.', 'method', 'code'
        )
        self._bytes = self._counter(
            'bytes', 'Bytes of the images that were made.', 'method'
        )
        self._increments = self._counter(
            'increments',
            'Snapshots in Cinder, by how their changes were found.',
            'way',
        )
        self._changed = self._counter(
            'changed_bytes', 'Bytes that had changed since the last.', 'way'
        )
        for way in Way:
            for metric in (self._increments, self._changed):
                metric.labels(way.value)
        self._recovered = self._counter(
            'recovered', 'Snapshots that died, of which nothing is left.'
        )
        self._left_to_nova = self._counter(
            'left_to_nova', "Snapshots left to Nova's own driver."
        )
        self._seconds = self._histogram(
            'duration_seconds', 'How long a snapshot took.', DURATIONS
        )
        self._stall = self._histogram(
            'stall_seconds', 'How long its guest stood still.', STALLS
        )
        for each in Method:
            # Create each series with 0, so that its first increase is seen.
            for metric in (
                self._done,
                self._bytes,
                self._seconds,
                self._stall,
            ):
                metric.labels(each.value)
        self._is_broken = False
        self._is_due = threading.Event()
        threading.Thread(target=self._keep_written, daemon=True).start()
        self._is_due.set()

    def _counter(self, name: str, what: str, *labels: str) -> Any:
        return self._client.Counter(
            f'nova_snapshot_{name}', what, labels, registry=self._registry
        )

    def _histogram(
        self, name: str, what: str, bounds: tuple[float, ...]
    ) -> Any:
        return self._client.Histogram(
            f'nova_snapshot_{name}',
            what,
            ('method',),
            buckets=bounds,
            registry=self._registry,
        )

    @contextlib.contextmanager
    def counted(self) -> Iterator[Tally]:
        tally = Tally()
        self._running.inc()
        self._is_due.set()
        try:
            yield tally
        except exception.Cancelled as error:
            self._cancelled.labels(tally.method, error.code).inc()
            raise
        except exception.SnapshotError as error:
            self._failed.labels(tally.method, error.code).inc()
            raise
        except BaseException:
            self._failed.labels(tally.method, FOREIGN).inc()
            raise
        else:
            if tally.snapshot is not None:
                self._count(tally.snapshot)
        finally:
            self._running.dec()
            self._is_due.set()

    def _count(self, snapshot: Snapshot) -> None:
        self._done.labels(snapshot.method).inc()
        self._bytes.labels(snapshot.method).inc(snapshot.size)
        self._seconds.labels(snapshot.method).observe(snapshot.total_seconds)
        for disk in snapshot.disks:
            if disk.increment is not None:
                way = disk.increment.way
                self._increments.labels(way).inc()
                self._changed.labels(way).inc(disk.increment.changed)
        if snapshot.stall_seconds:
            self._stall.labels(snapshot.method).observe(snapshot.stall_seconds)

    def healed(self) -> None:
        self._recovered.inc()
        self._is_due.set()

    def left_to_nova(self) -> None:
        self._left_to_nova.inc()
        self._is_due.set()

    def _keep_written(self) -> None:
        while True:
            self._is_due.wait()
            self._is_due.clear()
            self._write()

    def _write(self) -> None:
        directory, name = os.path.split(os.path.abspath(self._path))
        content = self._client.generate_latest(self._registry)
        try:
            with Directory.open(directory) as files:
                # node_exporter runs as another user; the file holds no
                # secrets.
                files.write(name, content, mode=0o644)
            self._is_broken = False
        except OSError as error:
            if not self._is_broken:
                LOG.warning(
                    'The metrics cannot be written: %s: %s',
                    self._path,
                    error.strerror,
                )
            self._is_broken = True
