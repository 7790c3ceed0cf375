# SPDX-License-Identifier: Apache-2.0
"""Every step of an increment goes wrong once, as ``test_every_fault`` has it
for other snapshots, and it dies before every step.

There is no exception to a law: the guest is as it was, libvirt knows of no
checkpoint, and QEMU has the bitmap of the newest snapshot and no other.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.state.chain import Chain
from tests import exhaustive
from tests import faults
from tests.faults import Kind
from tests.unit import mortal
from tests.unit import tables
from tests.unit.chain_host import TAKEN
from tests.unit.chain_host import ChainHost

#: An increment by bitmap has all steps of the others.
METHODS = ('auto', 'mirror', 'cold')


def prepared(host: ChainHost, method: str = 'auto') -> None:
    host.bound_guest_waits(1)
    host.begin()
    host.set('snapshot', 'method', method)


def _faults(
    kinds: tuple[Kind, ...], methods: tuple[str, ...] = METHODS
) -> dict[str, tuple[str, faults.Fault]]:
    table = {}
    for method in methods:
        with ChainHost() as host:
            prepared(host, method)
            steps = faults.record(host.connection, host.snapshot)
        for fault in faults.every_fault(steps, kinds):
            table[f'{method}_{fault}'] = (method, fault)
    return table


class IncrementCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(ChainHost())

    def prepare(self, method: str = 'auto') -> None:
        prepared(self.host, method)
        self.before = self.host.before()

    def judge(
        self, connection: Any, cancellation: Cancellation | None = None
    ) -> exception.SnapshotError | None:
        error = None
        try:
            self.host.snapshot(connection, cancellation)
        except exception.SnapshotError as raised:
            error = raised
        self.assertNotIsInstance(error, exception.UndoFailed)
        self.assertEqual([], self.host.differences(self.before), str(error))
        self.assertEqual([], self.host.wrong_bitmaps(), str(error))
        self.assertEqual(error is None, self.host.has(TAKEN))
        return error

    def next_one_is_right(self) -> None:
        """The next increment needs no comparison, or says why."""
        [disk] = self.host.take('wednesday').disks
        increment = disk.increment
        assert increment is not None
        newest = self.host.record(increment.parent or '')
        if newest['bitmap'] is None:
            self.assertEqual('compare', increment.way)
        else:
            self.assertEqual('bitmap', increment.way)


@ddt.ddt
class FaultTest(IncrementCase):
    @tables.rows(exhaustive.drawn(_faults((Kind.REFUSED, Kind.LOST))))
    def test_fault(self, method: str, fault: faults.Fault) -> None:
        self.prepare(method)
        with faults.Interposer(self.host.connection, fault) as interposer:
            self.judge(interposer.connection)
        self.host.set('snapshot', 'method', 'auto')
        self.next_one_is_right()


@ddt.ddt
class CancelledTest(IncrementCase):
    @tables.rows(exhaustive.drawn(_faults((Kind.MEANWHILE,), ('auto',))))
    def test_cancelled(self, method: str, fault: faults.Fault) -> None:
        self.prepare(method)
        cancellation = Cancellation()
        with faults.Interposer(
            self.host.connection, fault, lambda: cancellation.request('INT')
        ) as interposer:
            error = self.judge(interposer.connection, cancellation)
        if error is not None:
            self.assertIsInstance(error, exception.Cancelled)
        self.next_one_is_right()


class Process(mortal.Process):
    """A process that takes an increment."""

    def _setUp(self) -> None:
        super()._setUp()
        for name in ('publish', 'write_record'):
            self.useFixture(
                fixtures.MockPatchObject(
                    Chain, name, self._seen(getattr(Chain, name), name)
                )
            )
        self.host.data_plane.at_extract = lambda: self.begin('increment')


def _every_death() -> dict[str, tuple[str]]:
    with ChainHost() as host:
        prepared(host)
        with Process(host) as process:
            process.snapshot()
    return {step: (step,) for step in process.steps}


@ddt.ddt
class DeathTest(IncrementCase):
    @tables.rows(exhaustive.drawn(_every_death()))
    def test_healed(self, step: str) -> None:
        self.prepare()
        with Process(self.host, step) as process:
            process.snapshot()
        self.assertEqual(step, process.steps[-1])
        with Process(self.host) as process:
            process.heal()
        # The bitmap of a guest that runs is gone, or is that of its newest.
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual([], self.host.wrong_bitmaps())
        self.host.guest().undefine()
        self.next_one_is_right()

    @tables.rows(exhaustive.drawn(_every_death()))
    def test_guest_is_undefined_after_a_reboot(self, step: str) -> None:
        self.prepare()
        with Process(self.host, step) as process:
            process.snapshot()
        self.host.machine.stop()
        with Process(self.host) as process:
            process.heal()
        self.assertEqual(
            [],
            self.host.differences(
                dataclasses.replace(self.before, state='shut off')
            ),
        )
        self.assertEqual({}, self.host.machine.checkpoints)
