# SPDX-License-Identifier: Apache-2.0
"""Measures one snapshot."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from bench import processes
from bench.errors import BenchError
from bench.meter import Host
from bench.meter import Meter
from bench.processes import Usage
from bench.records import Images
from bench.sample import GLANCE
from bench.sample import QEMU
from bench.sample import Sample
from bench.server import BenchServer
from bench.ways import FLOOR
from bench.ways import Way
from lab.bounded import run
from lab.bounded import wait_until
from lab.cloud.cloud import Cloud
from lab.ticks import Ticks

_ROOT = Path(__file__).resolve().parents[1]

#: Seconds.
_IDLE = 3.0
_INTERVAL = 0.05
_SNAPSHOT_TIMEOUT = 1800
_TICK_TIMEOUT = 60


@dataclasses.dataclass(frozen=True)
class Subject:
    """The subject of snapshots: a server with its guest."""

    name: str
    server: BenchServer
    ticks: Ticks
    runs: bool = True


@dataclasses.dataclass(frozen=True)
class _Idle:
    """The cost of a guest without a snapshot."""

    #: the longest silence, seconds
    stall: float
    #: of a second
    cpu: float
    #: bytes that QEMU writes and reads for a byte that the guest writes
    written: float
    read: float


class Measurement:
    """Takes snapshots through the public API, and measures them."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._demo = cloud.connection('demo')
        # A type of the SDK that may be a proxy of version 1.
        self._glance: Any = self._demo.image
        self._images = Images(cloud.database('glance'))

    def snapshot(
        self, subject: Subject, way: Way, number: int, keep: Path | None = None
    ) -> Sample:
        """Take a snapshot, measure it, and delete its image.

        :param number: of the round
        :param keep: where the image's file is copied to, unless it is there
        :raises BenchError: the snapshot failed
        """
        server, ticks = subject.server, subject.ticks
        host = Host(self._cloud, server.id, server.domain)
        # Flush earlier writes, whose cost is not that of the snapshot.
        os.sync()
        idle = self._idle(host, subject)
        written, qemu, before = server.written, host.qemu, host.usage()
        with Meter(host) as meter:
            began = time.monotonic()
            with server.snapshot() as image:
                self._wait_until_active(image)
                wall = time.monotonic() - began
                server.wait_for_no_task()
                ended, after = time.monotonic(), host.usage()
                overwritten = server.written
                found = self._glance.get_image(image)
                if keep is not None and not keep.exists():
                    _copy(self._cloud.glance_store / image, keep)
        if host.qemu == qemu:
            overwritten -= written
        else:
            # Start from zero: a suspended guest gets a new process of QEMU.
            before[QEMU] = Usage()
        used = {group: after[group] - before[group] for group in after}
        used[QEMU] -= Usage(
            idle.cpu * (ended - began),
            round(idle.read * overwritten),
            round(idle.written * overwritten),
        )
        stall = ticks.longest_gap(began, ended) if subject.runs else 0.0
        return Sample(
            subject=subject.name,
            way=way.name,
            round=number,
            wall=wall,
            size=found.size,
            temporary=meter.temporary,
            overwritten=overwritten,
            stall=stall,
            idle_stall=idle.stall,
            away=meter.away,
            memory=meter.memory,
            usage=used | meter.parts,
        )

    def floor(self, subject: Subject, number: int, file: Path) -> Sample:
        """Upload a finished image, measure it, and delete it.

        :param subject: of which it is; it writes meanwhile
        """
        os.sync()
        subject.ticks.wait(10, _TICK_TIMEOUT)
        glance = self._cloud.services['glance'].pid
        before = processes.tree_usage(glance)
        output = run(
            [sys.executable, '-m', 'bench.floor', file],
            timeout=_SNAPSHOT_TIMEOUT,
            directory=_ROOT,
            environment=self._environment(),
        )
        result = json.loads(output.splitlines()[-1])
        used = processes.tree_usage(glance) - before
        image = self._glance.get_image(result['image'])
        self._glance.delete_image(image)
        return Sample(
            subject=subject.name,
            way=FLOOR.name,
            round=number,
            wall=result['wall'],
            size=image.size,
            usage={GLANCE: used},
        )

    def _idle(self, host: Host, subject: Subject) -> _Idle:
        if not subject.runs:
            return _Idle(0, 0, 0, 0)
        subject.ticks.wait(10, _TICK_TIMEOUT)
        began = time.monotonic()
        before, written = host.usage()[QEMU], subject.server.written
        time.sleep(_IDLE)
        used = host.usage()[QEMU] - before
        ended = time.monotonic()
        written = subject.server.written - written
        if not written:
            raise BenchError('the guest does not write')
        return _Idle(
            subject.ticks.longest_gap(began, ended),
            used.cpu / (ended - began),
            used.written / written,
            used.read / written,
        )

    def _wait_until_active(self, image: str) -> None:
        wait_until(
            lambda: self._images.is_active(image),
            f'image {image}',
            _SNAPSHOT_TIMEOUT,
            _INTERVAL,
        )

    def _environment(self) -> dict[str, str]:
        auth = self._demo.config.get_auth_args()
        return {
            f'OS_{name.upper()}': auth[name]
            for name in ('auth_url', 'username', 'password', 'project_name')
        }


def _copy(source: Path, target: Path) -> None:
    run(['cp', '--sparse=never', source, target], timeout=_SNAPSHOT_TIMEOUT)
