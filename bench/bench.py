# SPDX-License-Identifier: Apache-2.0
"""The run: all ways, in turn, on the same servers."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench import content
from bench.block import BlockGuest
from bench.content import GIB
from bench.content import MIB
from bench.errors import BenchError
from bench.measure import Measurement
from bench.measure import Subject
from bench.run import CONSOLE
from bench.sample import Sample
from bench.server import BenchServer
from bench.server import Shape
from bench.subjects import BLOCK
from bench.subjects import EMPTY
from bench.subjects import EMPTY_HUGE
from bench.subjects import PAUSED
from bench.subjects import ZEROS
from bench.subjects import subject_of
from bench.ways import BACKUP
from bench.ways import MIRROR
from bench.ways import UPSTREAM
from bench.ways import UPSTREAM_COLD
from bench.ways import ZSTD
from bench.ways import Way
from lab.cloud.cloud import Cloud
from lab.cloud.options import CloudOptions
from lab.ticks import Ticks

#: GiB, of the disks whose data is measured.
DISK = 20

#: GiB, the data of the guest on a block device.
_BLOCK_DATA = 1

_SMALL_DISK = 1
# Bytes. Nova has no room for such a flavor.
_HUGE_DISK = 2048 * GIB

# In memory, where reading it costs the floor nothing.
_MEMORY = Path('/dev/shm')


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a run."""

    rounds: int
    #: GiB
    sizes: Sequence[int]
    ways: Sequence[Way]
    #: nothing but the sizes
    quick: bool = False


class Bench:
    """A run of the benchmark."""

    def __init__(self, cloud: Cloud, options: Options) -> None:
        self._cloud = cloud
        self._options = options
        self._measurement = Measurement(cloud)
        self._subjects: dict[str, Subject] = {}
        self._block: tuple[BlockGuest, Ticks] | None = None
        #: by the subject, the file that the floor uploads
        self._finished: dict[str, Path] = {}
        self.samples: list[Sample] = []
        #: whether a snapshot has failed
        self.failed = False
        #: seconds that the agent takes for freezing and thawing
        self.freezes: list[float] = []

    def run(self) -> None:
        """Measure, and delete what was made for it."""
        with contextlib.ExitStack() as stack:
            memory = stack.enter_context(
                tempfile.TemporaryDirectory(dir=_MEMORY, prefix='bench.')
            )
            self._finished = {
                subject_of(size): Path(memory, str(size))
                for size in self._options.sizes
            }
            for name, shape in self._shapes.items():
                self._make(stack, name, shape)
            if self._has_block:
                self._make_block(stack)
            for number in range(1, self._options.rounds + 1):
                self._round(number)

    @property
    def _shapes(self) -> dict[str, Shape]:
        # The small one is there in any case: the first snapshot of a
        # nova-compute is not like those that follow.
        shapes = {EMPTY: Shape(_SMALL_DISK)}
        for size in self._options.sizes:
            shapes[subject_of(size)] = Shape(
                DISK, partial(content.fill, size=size * GIB)
            )
        if not self._options.quick:
            shapes[EMPTY_HUGE] = Shape(
                _SMALL_DISK, partial(content.grow, size=_HUGE_DISK)
            )
            shapes[ZEROS] = Shape(
                DISK, partial(content.fill_with_zeros, size=GIB)
            )
        return shapes

    def _make(
        self, stack: contextlib.ExitStack, name: str, shape: Shape
    ) -> None:
        CONSOLE.print(f'Make a server: {name}')
        server = BenchServer(self._cloud, shape)
        ticks = stack.enter_context(server.running())
        self._subjects[name] = Subject(name, server, ticks)
        server.wait_until_settled()
        # Pause the guests that are not measured: they take no processor time.
        server.pause()

    @property
    def _has_block(self) -> bool:
        return (
            not self._options.quick
            and BACKUP in self._options.ways
            and _BLOCK_DATA in self._options.sizes
        )

    def _make_block(self, stack: contextlib.ExitStack) -> None:
        CONSOLE.print(f'Make a guest: {BLOCK}')
        original = self._subjects[subject_of(_BLOCK_DATA)]
        guest = BlockGuest(self._cloud, original.server)
        self._block = guest, stack.enter_context(guest.running())

    def _round(self, number: int) -> None:
        for way in self._options.ways:
            # Go on after a failure: the other snapshots are worth measuring.
            with self._noting_failure(way, number):
                self._measure_way(way, number)
        for name, file in self._finished.items():
            if file.exists():
                self._measure_floor(name, number, file)
        if UPSTREAM in self._options.ways and not self._options.quick:
            self._change_to(UPSTREAM_COLD)
            self._measure(
                subject_of(min(self._options.sizes)), UPSTREAM_COLD, number
            )

    @contextlib.contextmanager
    def _noting_failure(self, way: Way, number: int) -> Iterator[None]:
        try:
            yield
        except BenchError as error:
            self.failed = True
            CONSOLE.print(
                f'round {number} of {self._options.rounds}, {way.name}: '
                f'{error}',
                markup=False,
            )

    def _measure_way(self, way: Way, number: int) -> None:
        self._change_to(way)
        self._measure_paused(way, number)
        for size in self._options.sizes:
            self._measure(subject_of(size), way, number)
        if self._options.quick:
            return
        if way in (UPSTREAM, BACKUP):
            self._measure(EMPTY, way, number)
            self._measure(EMPTY_HUGE, way, number)
        if way is BACKUP and self._block is not None:
            guest, ticks = self._block
            self._add(guest.snapshot(BLOCK, way, number, ticks))
        if way in (UPSTREAM, MIRROR, BACKUP) and number == 1:
            self._measure(ZEROS, way, number)

    def _change_to(self, way: Way) -> None:
        """Have nova-compute take snapshots in another way."""
        if self._cloud.options.driver != way.driver:
            self._cloud.ensure(CloudOptions(driver=way.driver))
        self._cloud.configure_compute(way.overrides)

    def _measure_paused(self, way: Way, number: int) -> None:
        subject = dataclasses.replace(
            self._subjects[EMPTY], name=PAUSED, runs=False
        )
        self._add(self._measurement.snapshot(subject, way, number))

    def _measure(self, name: str, way: Way, number: int) -> None:
        subject = self._subjects[name]
        # Keep only uncompressed images for the floor, which uploads the same
        # bytes.
        keep = None if way is ZSTD else self._finished.get(name)
        with subject.server.unpaused():
            self._add(self._measurement.snapshot(subject, way, number, keep))
            if name in self._finished:
                self.freezes.append(subject.server.freeze_and_thaw())

    def _measure_floor(self, name: str, number: int, file: Path) -> None:
        subject = self._subjects[name]
        # Let the guest run: it slows an upload as it slows a snapshot.
        with subject.server.unpaused():
            self._add(self._measurement.floor(subject, number, file))

    def _add(self, sample: Sample) -> None:
        self.samples.append(sample)
        CONSOLE.print(
            f'round {sample.round} of {self._options.rounds}, '
            f'{sample.way}, {sample.subject}: {sample.wall:.1f} s, '
            f'{sample.on_host.written / MIB:.0f} MiB written, '
            f'stall {sample.stall:.2f} s, image {sample.size / MIB:.0f} MiB'
        )
