# SPDX-License-Identifier: Apache-2.0
"""Measures one snapshot of a volume-backed server."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

from bench import idle
from bench.errors import BenchError
from bench.measure import Subject
from bench.records import Images
from bench.records import VolumeSnapshots
from bench.volumes.results import Sample
from bench.volumes.ways import Way
from bench.volumes.ways import way_of
from lab.bounded import wait_until
from lab.cloud.cloud import Cloud

#: Seconds.
_INTERVAL = 0.05
_SNAPSHOT_TIMEOUT = 300
_DELETE_TIMEOUT = 120
_TICK_TIMEOUT = 60

_TICKS = 10


class Measurement:
    """Takes snapshots through the public API, and measures them."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        # A type of the SDK that may be a proxy of an older version.
        self._glance: Any = cloud.connection('demo').image
        self._cinder: Any = cloud.connection('admin').block_storage
        self._images = Images(cloud.database('glance'))
        self._snapshots = VolumeSnapshots(cloud.database('cinder'))

    def snapshot(self, subject: Subject, way: Way, number: int) -> Sample:
        """Take a snapshot, measure it, and delete all of it.

        :param number: of the round
        :raises BenchError: the snapshot failed, or was taken in another way
        """
        server, ticks = subject.server, subject.ticks
        volumes = server.volumes
        # Flush earlier writes, whose cost is not that of the snapshot.
        os.sync()
        idle_stall = idle.stall(ticks)
        log = self._cloud.log('nova-api')
        with self._deleting_snapshots_of(volumes):
            began = time.monotonic()
            with server.snapshot() as image:
                answered = time.monotonic()
                self._wait_until_available(image, volumes)
                ended = time.monotonic()
                # Wait for ticks: the guest may still be frozen.
                ticks.wait(_TICKS, _TICK_TIMEOUT)
                stall = ticks.longest_gap(began, time.monotonic())
                server.wait_for_no_task()
                properties = self._glance.get_image(image).properties
        found = way_of(properties, log)
        if found is not way:
            raise BenchError(f'it became a snapshot of {found.title}')
        still = properties.get('snapshot_stall_seconds')
        return Sample(
            way=way.name,
            round=number,
            wall=ended - began,
            answer=answered - began,
            stall=stall,
            idle_stall=idle_stall,
            still=None if still is None else float(still),
        )

    def _wait_until_available(self, image: str, volumes: list[str]) -> None:
        wait_until(
            lambda: (
                self._images.is_active(image)
                and self._snapshots.are_available(volumes)
            ),
            f'image {image} and its snapshots',
            _SNAPSHOT_TIMEOUT,
            _INTERVAL,
        )

    @contextlib.contextmanager
    def _deleting_snapshots_of(self, volumes: list[str]) -> Iterator[None]:
        try:
            yield
        finally:
            # Wait for Cinder, which deletes no snapshot that it is about to
            # create.
            wait_until(
                lambda: 'creating' not in self._snapshots.of(volumes).values(),
                f'the snapshots of {volumes} to be made',
                _DELETE_TIMEOUT,
            )
            for snapshot in self._snapshots.of(volumes):
                self._cinder.delete_snapshot(snapshot)
            wait_until(
                lambda: not self._snapshots.of(volumes),
                f'the snapshots of {volumes} to be gone',
                _DELETE_TIMEOUT,
            )
