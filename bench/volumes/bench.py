# SPDX-License-Identifier: Apache-2.0
"""The run: all ways, in turn, on the same servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bench.errors import BenchError
from bench.measure import Subject
from bench.run import CONSOLE
from bench.server import BenchServer
from bench.server import Shape
from bench.volumes.measure import Measurement
from bench.volumes.results import Sample
from bench.volumes.ways import WAYS
from bench.volumes.ways import Way
from lab.cloud.cloud import Cloud

#: The volumes of each server, its root disk included.
VOLUMES = 4


class Bench:
    """A run of the benchmark."""

    def __init__(self, cloud: Cloud, rounds: int) -> None:
        self._cloud = cloud
        self._rounds = rounds
        self._measurement = Measurement(cloud)
        #: by whether the guest has an agent
        self._subjects: dict[bool, Subject] = {}
        self.samples: list[Sample] = []
        #: whether a snapshot has failed
        self.failed = False

    def run(self) -> None:
        """Measure, and delete what was made for it."""
        with contextlib.ExitStack() as stack:
            for has_agent in (True, False):
                self._subjects[has_agent] = self._make(stack, has_agent)
            for number in range(1, self._rounds + 1):
                for way in WAYS:
                    # Go on after a failure: the other snapshots are worth
                    # measuring.
                    with self._noting_failure(way, number):
                        self._measure(way, number)

    def _make(self, stack: contextlib.ExitStack, has_agent: bool) -> Subject:
        name = 'with an agent' if has_agent else 'without an agent'
        CONSOLE.print(f'Make a server: {name}')
        server = BenchServer(self._cloud, Shape(volumes=VOLUMES))
        ticks = stack.enter_context(server.running())
        if not has_agent:
            server.end_agent()
        # Pause the guest that is not measured: it takes no processor time.
        server.pause()
        return Subject(name, server, ticks)

    @contextlib.contextmanager
    def _noting_failure(self, way: Way, number: int) -> Iterator[None]:
        try:
            yield
        except BenchError as error:
            self.failed = True
            CONSOLE.print(
                f'round {number} of {self._rounds}, {way.name}: {error}',
                markup=False,
            )

    def _measure(self, way: Way, number: int) -> None:
        self._cloud.ensure(way.options)
        subject = self._subjects[way.has_agent]
        with subject.server.unpaused():
            # Discard the first snapshot after a restart, which is not like
            # others.
            self._measurement.snapshot(subject, way, number)
            self._add(self._measurement.snapshot(subject, way, number))

    def _add(self, sample: Sample) -> None:
        self.samples.append(sample)
        CONSOLE.print(
            f'round {sample.round} of {self._rounds}, {sample.way}: '
            f'{sample.wall:.1f} s, answer {sample.answer:.2f} s, '
            f'stall {sample.stall:.2f} s'
        )
