# SPDX-License-Identifier: Apache-2.0
"""The run: all ways, in turn, on the same server."""

from __future__ import annotations

from functools import partial

from bench import content
from bench.content import GIB
from bench.content import MIB
from bench.increments.measure import Measurement
from bench.increments.results import Sample
from bench.increments.ways import NOTHING
from bench.increments.ways import WAYS
from bench.increments.ways import Way
from bench.measure import Subject
from bench.run import CONSOLE
from bench.server import BenchServer
from bench.server import Shape
from lab.cloud.cloud import Cloud

#: GiB.
DISK = 20


class Bench:
    """A run of the benchmark.

    :param data: GiB on the disk of the server
    """

    def __init__(self, cloud: Cloud, rounds: int, data: int) -> None:
        self._cloud = cloud
        self._rounds = rounds
        self._data = data
        self._measurement = Measurement(cloud, data * GIB)
        self.samples: list[Sample] = []

    def run(self) -> None:
        """Measure, and delete what was made for it."""
        CONSOLE.print(f'Make a server: {self._data} GiB of data')
        server = BenchServer(
            self._cloud,
            Shape(DISK, partial(content.fill, size=self._data * GIB)),
        )
        with server.running() as ticks:
            server.wait_until_settled()
            subject = Subject('the server', server, ticks)
            try:
                for number in range(1, self._rounds + 1):
                    self._measurement.delete_shadow(server)
                    for way in WAYS:
                        self._measure(subject, way, number)
                    self._add(self._measurement.read(subject, number))
            finally:
                self._measurement.delete_shadow(server)

    def _measure(self, subject: Subject, way: Way, number: int) -> None:
        if way is not NOTHING:
            self._add(self._measurement.snapshot(subject, way, number))
            return
        subject.server.pause()
        try:
            # The guest has written since the one before.
            self._measurement.snapshot(subject, way, number)
            self._add(self._measurement.snapshot(subject, way, number))
        finally:
            subject.server.unpause()

    def _add(self, sample: Sample) -> None:
        self.samples.append(sample)
        CONSOLE.print(
            f'round {sample.round} of {self._rounds}, {sample.way}: '
            f'{sample.wall:.1f} s, {sample.changed / MIB:.1f} MiB changed, '
            f'{sample.sent / MIB:.1f} MiB sent, stall {sample.stall:.2f} s, '
            f'{sample.memory / MIB:.0f} MiB of memory'
        )
