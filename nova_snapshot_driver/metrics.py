# SPDX-License-Identifier: Apache-2.0
"""What the snapshots of nova-compute come to, for Prometheus.

It is a file that the textfile collector of node_exporter reads. A snapshot
neither fails for it nor waits for it: a thread of its own writes it.
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
from nova_snapshot_driver.plan import Path
from nova_snapshot_driver.result import Snapshot

LOG = logging.getLogger(__name__)

#: The path of a snapshot that has failed before it had one.
NO_PATH = 'none'

#: The code of what is no error of the driver, such as a task state of Nova's
#: that is not the expected one.
FOREIGN = 'other'

#: The upper bounds of the histograms, in seconds.
DURATIONS = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 43200)
STILLNESSES = (0.05, 0.1, 0.3, 1, 3, 10, 30, 60, 300, 1800)


@dataclasses.dataclass
class Tally:
    """What is known of one snapshot while it is taken.

    :ivar path: by which it is taken, or was tried last
    :ivar snapshot: that has succeeded
    """

    path: str = NO_PATH
    snapshot: Snapshot | None = None


class Metrics:
    """Counts nothing."""

    @contextlib.contextmanager
    def counted(self) -> Iterator[Tally]:
        """Count the snapshot that is taken inside."""
        yield Tally()

    def healed(self) -> None:
        """Count a snapshot that died, of which nothing is left."""

    def left_to_nova(self) -> None:
        """Count a snapshot that Nova's own driver takes."""


def of(path: str | None) -> Metrics:
    """The metrics of this process, in so far as there are any.

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
    """Counts what one process does, from its start on, in a file.

    :raises MetricsUnavailable: the library of Prometheus is missing
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._client = client()
        self._registry = self._client.CollectorRegistry()
        self._running = self._client.Gauge(
            'nova_snapshot_running',
            'Snapshots that are being taken.',
            registry=self._registry,
        )
        self._done = self._counter(
            'done', 'Snapshots that were taken.', 'path'
        )
        self._failed = self._counter(
            'failed', 'Snapshots that have failed.', 'path', 'code'
        )
        self._bytes = self._counter(
            'bytes', 'Bytes of the images that were made.', 'path'
        )
        self._recovered = self._counter(
            'recovered', 'Snapshots that died, of which nothing is left.'
        )
        self._left_to_nova = self._counter(
            'left_to_nova', "Snapshots left to Nova's own driver."
        )
        self._seconds = self._histogram(
            'duration_seconds', 'How long a snapshot took.', DURATIONS
        )
        self._still = self._histogram(
            'still_seconds', 'How long its guest stood still.', STILLNESSES
        )
        for each in Path:
            # What has not happened yet is 0, so that the first one is seen.
            for metric in (
                self._done,
                self._bytes,
                self._seconds,
                self._still,
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
            ('path',),
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
        except exception.SnapshotError as error:
            self._failed.labels(tally.path, error.code).inc()
            raise
        except BaseException:
            self._failed.labels(tally.path, FOREIGN).inc()
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
        if snapshot.still_seconds:
            self._still.labels(snapshot.method).observe(snapshot.still_seconds)

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
        draft = f'{self._path}.draft'
        try:
            with open(draft, 'wb') as file:
                # node_exporter is another user, and there are no secrets.
                os.fchmod(file.fileno(), 0o644)
                file.write(self._client.generate_latest(self._registry))
            os.replace(draft, self._path)
            self._is_broken = False
        except OSError as error:
            if not self._is_broken:
                LOG.warning(
                    'The metrics cannot be written: %s: %s',
                    self._path,
                    error.strerror,
                )
            self._is_broken = True
