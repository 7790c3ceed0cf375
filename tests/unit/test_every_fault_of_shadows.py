# SPDX-License-Identifier: Apache-2.0
"""Every step of a snapshot into a volume goes wrong once, as
``test_every_fault`` has it for those into Glance, and it dies before every
step.

There is no exception to a law: the guest is as it was, nothing is attached,
and QEMU has the bitmap of the newest snapshot. The next snapshot is right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator

import ddt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from tests import exhaustive
from tests import faults
from tests.faults import Kind
from tests.unit import fake_cinder
from tests.unit import fake_glance
from tests.unit import mortal
from tests.unit import tables
from tests.unit.shadow_host import ShadowHost

#: The words for a server without a snapshot, and with one.
FIRST = 'first'
NEXT = 'next'


@contextlib.contextmanager
def prepared(begin: str) -> Iterator[ShadowHost]:
    with ShadowHost() as host:
        prepare(host, begin)
        yield host


def prepare(host: ShadowHost, begin: str) -> None:
    host.bound_guest_waits(1)
    if begin == NEXT:
        host.take()
        # A stranger has been there: the volume is reverted.
        host.cinder.touch(host.volume['id'])
        host.image = host.new_image()
    host.cinder.requests.clear()
    host.cinder._calls.clear()
    host.glance.requests.clear()


def _requests() -> dict[str, tuple[str, str]]:
    """Every request to Cinder, but for those whose number is luck."""
    table = {}
    for begin in (FIRST, NEXT):
        with prepared(begin) as host:
            host.snapshot()
            for request in dict.fromkeys(host.cinder.requests):
                table[f'{begin}_{request}'] = (begin, request)
    return table


def _images() -> dict[str, tuple[str, int]]:
    """Every request to Glance."""
    with prepared(NEXT) as host:
        host.snapshot()
        return {
            f'{number}_{request.method}': (NEXT, number)
            for number, request in enumerate(host.glance.requests, 1)
        }


def _faults(kinds: tuple[Kind, ...]) -> dict[str, tuple[str, faults.Fault]]:
    with prepared(NEXT) as host:
        steps = faults.record(host.connection, host.snapshot)
    return {
        str(fault): (NEXT, fault) for fault in faults.every_fault(steps, kinds)
    }


class ShadowCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(ShadowHost())

    def prepare(self, begin: str) -> None:
        prepare(self.host, begin)
        self.before = self.host.before()

    def judge(
        self, snapshot: Callable[[], object]
    ) -> exception.SnapshotError | None:
        error = None
        try:
            snapshot()
        except exception.SnapshotError as raised:
            error = raised
        self.host.cinder.troubles.clear()
        self.host.cinder.late_troubles.clear()
        self.host.glance.troubles.clear()
        self.host.glance.late_troubles.clear()
        self.assertNotIsInstance(error, exception.UndoFailed)
        if isinstance(
            error, exception.VolumeLeftBehind | exception.ImageLeftBehind
        ):
            # The journal knows of it.
            self.host.healer().heal(self.host.context)
        self.assertEqual([], self.host.differences(self.before), str(error))
        image = self.host.glance.images.get(self.host.image)
        if error is not None:
            self.assertIsNone(image)
        return error

    def next_one_is_right(self) -> None:
        """The next increment needs no comparison, or says why."""
        newest, bitmap = self.host.newest(), self.host.newest_bitmap()
        has_bitmap = bitmap in self.host.bitmaps()
        [disk] = self.host.take().disks
        increment = disk.increment
        assert increment is not None
        if newest is None:
            self.assertIn(increment.way, ('full', 'compare'))
        else:
            way = 'bitmap' if has_bitmap else 'compare'
            self.assertEqual(way, increment.way)
        self.assertEqual([], self.host.differences(self.before))


@ddt.ddt
class LibvirtTest(ShadowCase):
    @tables.rows(exhaustive.drawn(_faults((Kind.REFUSED, Kind.LOST))))
    def test_fault(self, begin: str, fault: faults.Fault) -> None:
        self.prepare(begin)
        with faults.Interposer(self.host.connection, fault) as interposer:
            self.judge(lambda: self.host.snapshot(interposer.connection))
        self.next_one_is_right()

    @tables.rows(exhaustive.drawn(_faults((Kind.MEANWHILE,))))
    def test_cancelled(self, begin: str, fault: faults.Fault) -> None:
        self.prepare(begin)
        cancellation = Cancellation()
        with faults.Interposer(
            self.host.connection, fault, lambda: cancellation.request('INT')
        ) as interposer:
            error = self.judge(
                lambda: self.host.snapshot(interposer.connection, cancellation)
            )
        if error is not None:
            self.assertIsInstance(error, exception.Cancelled)
        self.next_one_is_right()


@ddt.ddt
class CinderTest(ShadowCase):
    @tables.rows(exhaustive.drawn(_requests()))
    def test_unavailable(self, begin: str, request: str) -> None:
        self.prepare(begin)
        self.host.cinder.troubles[request] = fake_cinder.unavailable
        self.judge(self.host.snapshot)
        self.next_one_is_right()

    @tables.rows(exhaustive.drawn(_requests()))
    def test_refused(self, begin: str, request: str) -> None:
        self.prepare(begin)
        self.host.cinder.troubles[request] = lambda: fake_cinder._error(
            400, 'no'
        )
        self.judge(self.host.snapshot)
        self.next_one_is_right()

    @tables.rows(exhaustive.drawn(_requests()))
    def test_answer_is_lost(self, begin: str, request: str) -> None:
        self.prepare(begin)
        self.host.cinder.late_troubles[request] = fake_cinder.broken
        self.judge(self.host.snapshot)
        self.next_one_is_right()


@ddt.ddt
class GlanceTest(ShadowCase):
    @tables.rows(_images())
    def test_unavailable(self, begin: str, number: int) -> None:
        self.prepare(begin)
        self.host.glance.troubles[number] = fake_glance.unavailable
        self.judge(self.host.snapshot)
        self.next_one_is_right()

    @tables.rows(_images())
    def test_answer_is_lost(self, begin: str, number: int) -> None:
        self.prepare(begin)
        self.host.glance.late_troubles[number] = fake_glance.broken
        self.judge(self.host.snapshot)
        self.next_one_is_right()


class Process(mortal.Process):
    """A process that takes a snapshot into a volume."""

    def _setUp(self) -> None:
        super()._setUp()
        self.host.cinder.before = self._ask
        self.host.data_plane.at_extract = lambda: self.begin('update')

    def _ask(self, request: str) -> None:
        # How often it is polled is a matter of luck.
        if self.is_dead or not request.startswith(('poll', 'volume_')):
            self.begin(request.replace('_', ''))

    def is_over(self) -> None:
        self.host.cinder.before = lambda _request: None
        self.host.data_plane.at_extract = lambda: None


def _every_death() -> dict[str, tuple[str, str]]:
    table = {}
    for begin in (FIRST, NEXT):
        with prepared(begin) as host, Process(host) as process:
            process.snapshot()
            process.is_over()
        for step in process.steps:
            table[f'{begin}_{step}'] = (begin, step)
    return table


@ddt.ddt
class DeathTest(ShadowCase):
    @tables.rows(exhaustive.drawn(_every_death()))
    def test_healed(self, begin: str, step: str) -> None:
        self.prepare(begin)
        with Process(self.host, step) as process:
            process.snapshot()
        process.is_over()
        self.assertIn(step, process.steps)
        self.host.healer().heal(self.host.context)
        image = self.host.glance.images.get(self.host.image)
        if image is not None and image['status'] == 'queued':
            # The driver does not know of an image before its journal does.
            del self.host.glance.images[self.host.image]
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual({}, self.host.machine.checkpoints)
        self.next_one_is_right()
