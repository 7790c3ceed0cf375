# SPDX-License-Identifier: Apache-2.0
"""Measures one snapshot of a server of which a part has changed."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from openstack.exceptions import HttpException

from bench import content
from bench import idle
from bench.content import GIB
from bench.errors import BenchError
from bench.increments.results import Sample
from bench.increments.ways import READ
from bench.increments.ways import Way
from bench.measure import Subject
from bench.meter import Host
from bench.meter import Meter
from bench.records import Images
from bench.server import BenchServer
from lab.bounded import run
from lab.bounded import wait_until
from lab.cloud.cloud import Cloud
from nova_snapshot_driver.takings.shadow_volume import OF

#: Seconds.
_INTERVAL = 0.05
_SNAPSHOT_TIMEOUT = 900
_READ_TIMEOUT = 300
_CINDER_TIMEOUT = 120
_TICK_TIMEOUT = 60

_TICKS = 10

# Each block gets what the next one has, which is of the other kind.
_CHANGE = (
    'dd if=/dev/vda of=/dev/vda bs=64k skip={source} seek={target} '
    'count={count} conv=notrunc,fsync'
)
_UNIT = 64 << 10


class Measurement:
    """Takes snapshots through the public API, and measures them.

    :param data: the bytes on the disk of each server
    """

    def __init__(self, cloud: Cloud, data: int) -> None:
        self._cloud = cloud
        self._data = data
        # A type of the SDK that may be a proxy of an older version.
        self._glance: Any = cloud.connection('demo').image
        self._cinder: Any = cloud.connection('admin').block_storage
        self._images = Images(cloud.database('glance'))

    def snapshot(self, subject: Subject, way: Way, number: int) -> Sample:
        """Have the guest change its disk, take a snapshot, and measure it.

        The next snapshot deletes it in Cinder, once its image is gone.

        :param number: of the round
        :raises BenchError: the snapshot failed, or was taken in another way
        """
        server, ticks = subject.server, subject.ticks
        runs = way.percent is not None
        if way.percent:
            self._change(server, way.percent)
        if way.grows:
            self._grow_shadow(server)
        # Flush earlier writes, whose cost is not that of the snapshot.
        os.sync()
        idle_stall = idle.stall(ticks) if runs else 0.0
        host = Host(self._cloud, server.id, server.domain)
        with Meter(host) as meter:
            began = time.monotonic()
            with server.snapshot(snapshot_target=way.target) as image:
                self._wait_until_active(image)
                ended = time.monotonic()
                if runs:
                    # Wait for ticks: the guest may still be frozen.
                    ticks.wait(_TICKS, _TICK_TIMEOUT)
                stall = ticks.longest_gap(began, time.monotonic())
                server.wait_for_no_task()
                found = self._glance.get_image(image)
        properties = found.properties
        if properties.get('snapshot_way') != way.found:
            raise BenchError(
                f'{way.title}: it was taken by '
                f'{properties.get("snapshot_way")}: '
                f'{properties.get("snapshot_way_reason")}'
            )
        return Sample(
            way=way.name,
            round=number,
            wall=ended - began,
            changed=int(properties.get('snapshot_changed_bytes', 0)),
            sent=int(properties.get('snapshot_sent_bytes', found.size)),
            stall=stall if runs else 0.0,
            idle_stall=idle_stall,
            memory=meter.memory,
        )

    def read(self, subject: Subject, number: int) -> Sample:
        """Read the disk of a server, as the guest goes on."""
        began = time.monotonic()
        run(
            [
                *('qemu-img', 'convert', '-U', '-f', 'qcow2', '-n'),
                *('--target-image-opts', subject.server.disk),
                f'driver=null-co,size={subject.server.size * GIB}',
            ],
            timeout=_READ_TIMEOUT,
        )
        return Sample(READ, number, time.monotonic() - began)

    def delete_shadow(self, server: BenchServer) -> None:
        """Delete the volume with the snapshots of a server, if it has one."""

        def is_gone() -> bool:
            shadows = self._shadows(server)
            for volume in shadows:
                # Cinder may be at work on some of them.
                with contextlib.suppress(HttpException):
                    for snapshot in self._cinder.snapshots(all_projects=True):
                        if snapshot.volume_id == volume.id:
                            self._cinder.delete_snapshot(snapshot)
                    self._cinder.delete_volume(volume)
            return not shadows

        wait_until(
            is_gone,
            f'the shadow of {server.id} to be gone',
            _CINDER_TIMEOUT,
            0.5,
        )

    def _shadows(self, server: BenchServer) -> list[Any]:
        return [
            volume
            for volume in self._cinder.volumes(all_projects=True)
            if volume.metadata.get(OF) == server.id
        ]

    def _grow_shadow(self, server: BenchServer) -> None:
        [shadow] = self._shadows(server)
        size = shadow.size + 1
        self._cinder.extend_volume(shadow, size)

        def has_grown() -> bool:
            found = self._cinder.get_volume(shadow.id)
            return bool(found.size == size and found.status == 'available')

        wait_until(
            has_grown, f'{shadow.id} to have grown', _CINDER_TIMEOUT, 0.3
        )

    def _change(self, server: BenchServer, percent: float) -> None:
        target = content.START // _UNIT
        server.run(
            _CHANGE.format(
                source=target + content.BLOCK // _UNIT,
                target=target,
                count=round(self._data * percent / 100 / _UNIT),
            )
        )

    def _wait_until_active(self, image: str) -> None:
        wait_until(
            lambda: self._images.is_active(image),
            f'image {image}',
            _SNAPSHOT_TIMEOUT,
            _INTERVAL,
        )
