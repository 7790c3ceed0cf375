# SPDX-License-Identifier: Apache-2.0
"""Every call that QEMU answers is not answered once; calls are drawn by lot.

The snapshot ends all the same, in about ``qemu_timeout``. The call has its
effect later, when QEMU goes on, and nothing is left of it after that.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import ddt
import fixtures

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import background
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.hypervisor import libvirt_objects
from nova_snapshot_driver.hypervisor.libvirt_calls import CALLS
from nova_snapshot_driver.hypervisor.libvirt_calls import Answerer
from tests import exhaustive
from tests import faults
from tests.faults import Kind
from tests.unit import tables
from tests.unit import test_every_fault_of_volumes as of_volumes
from tests.unit.fake_libvirt import Agent
from tests.unit.host import FakeHost
from tests.unit.judged import JudgedCase
from tests.unit.judged import Way
from tests.unit.judged import every_fault
from tests.unit.ways import MORE_WAYS
from tests.unit.ways import WAYS

#: The seconds after which the test itself is at fault.
PATIENCE = 30

#: The answerers that wait for QEMU, and so may never answer.
SILENT = (Answerer.QEMU, Answerer.QEMU_BESIDE, Answerer.AGENT)


class Clock:
    """A clock that runs as any other, and leaps during an unanswered call."""

    LEAP = 0.2

    def __init__(self) -> None:
        self.interposer: faults.Interposer | None = None
        self._leaps = 0

    def monotonic(self) -> float:
        silent = self.interposer is not None and self.interposer.struck
        if silent and not self.interposer.goes_on.is_set():  # type: ignore[union-attr]
            self._leaps += 1
        return time.monotonic() + self._leaps * self.LEAP


def of_qemu(
    table: dict[str, tuple[Way, faults.Fault]],
) -> dict[str, tuple[Way, faults.Fault]]:
    return {
        name: row
        for name, row in table.items()
        if CALLS[row[1].step.call].answered_by in SILENT
    }


class SilenceCase(JudgedCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.useFixture(
            fixtures.MockPatchObject(libvirt_objects, 'time', self.clock)
        )
        self.useFixture(
            fixtures.MockPatchObject(libvirt_objects, 'POLL_INTERVAL', 0.005)
        )
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.hypervisor.power.ABORT_TIMEOUT', 0
            )
        )

    @contextlib.contextmanager
    def silent(
        self, host: FakeHost, fault: faults.Fault
    ) -> Iterator[faults.Interposer]:
        threads = threading.active_count()
        with faults.Interposer(host.connection, fault) as interposer:
            self.clock.interposer = interposer
            try:
                yield interposer
            finally:
                interposer.goes_on.set()
        # Every thread ends when what it has asked for is answered.
        deadline = time.monotonic() + PATIENCE
        while threading.active_count() > threads:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.002)

    def is_healed(self, host: FakeHost, before: object) -> None:
        if host.machine.agent is Agent.HANGS:
            # Until it answers nobody knows that it has frozen nothing.
            host.machine.agent = Agent.ANSWERS
        host.healer().heal(host.context)
        self.assertEqual([], host.differences(before))  # type: ignore[arg-type]


@ddt.ddt
class SilenceTest(SilenceCase):
    @tables.rows(
        exhaustive.drawn(
            of_qemu(
                every_fault(WAYS | MORE_WAYS, (Kind.SILENT,))
                | every_fault(of_volumes.WAYS, (Kind.SILENT,))
            )
        )
    )
    def test_late_answer(self, way: Way, fault: faults.Fault) -> None:
        host = self.on(way)
        host.bound_guest_waits(1)
        before = host.before()
        error = None
        with self.silent(host, fault) as interposer:
            snapshot = background.call(
                lambda: host.snapshot(interposer.connection)
            )
            try:
                snapshot.result(PATIENCE)
            except exception.SnapshotError as raised:
                error = raised
            self.assertTrue(snapshot.done(), f'{fault}')
        status = host.glance.images.get(host.image, {}).get('status')
        self.assertEqual('active' if error is None else None, status)
        self.is_healed(host, before)

    @tables.rows(exhaustive.drawn(of_qemu(every_fault(WAYS, (Kind.SILENT,)))))
    def test_cancelled(self, way: Way, fault: faults.Fault) -> None:
        host = self.on(way)
        before = host.before()
        cancellation = Cancellation()
        with self.silent(host, fault) as interposer:
            self.clock.interposer = None
            snapshot = background.call(
                lambda: host.snapshot(interposer.connection, cancellation)
            )
            deadline = time.monotonic() + PATIENCE
            while not interposer.struck and not snapshot.done():
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.001)
            cancellation.request('SIGTERM')
            self.clock.interposer = interposer
            error = snapshot.exception(PATIENCE)
        # Remains of an earlier snapshot are seen to first.
        self.assertIsInstance(
            error,
            (
                exception.Cancelled,
                exception.UndoFailed,
                exception.HypervisorSilent,
            ),
        )
        self.is_healed(host, before)
