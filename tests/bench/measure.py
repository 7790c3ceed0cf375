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

from tests.bench import processes
from tests.bench.errors import BenchError
from tests.bench.meter import Host
from tests.bench.meter import Meter
from tests.bench.processes import Usage
from tests.bench.records import Images
from tests.bench.sample import GLANCE
from tests.bench.sample import QEMU
from tests.bench.sample import Sample
from tests.bench.server import BenchServer
from tests.bench.ways import FLOOR
from tests.bench.ways import Way
from tests.lab.bounded import run
from tests.lab.bounded import wait_until
from tests.lab.cloud.cloud import Cloud
from tests.lab.ticks import Ticks

_ROOT = Path(__file__).resolve().parents[2]

#: Seconds.
_IDLE = 3.0
_INTERVAL = 0.05
_SNAPSHOT_TIMEOUT = 1800
_TICK_TIMEOUT = 60


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a snapshot is taken of."""

    name: str
    server: BenchServer
    ticks: Ticks
    runs: bool = True


@dataclasses.dataclass(frozen=True)
class _Idle:
    """What a guest costs without a snapshot."""

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
        # By its type it may be one of version 1.
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
        # What was written before is not to be paid for now.
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
            # It was suspended: another process has begun at nothing.
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
            [sys.executable, '-m', 'tests.bench.floor', file],
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
