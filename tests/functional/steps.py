# SPDX-License-Identifier: Apache-2.0
"""A snapshot in which one call to libvirt goes wrong.

Each takes seconds of a real guest: calls are drawn by lot.
"""

from __future__ import annotations

from typing import ClassVar

from lab.bounded import wait_until
from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.snapshot.plan.instance import Instance
from tests import exhaustive
from tests import faults
from tests.functional import base

#: Seconds
TIMEOUT = 30

#: A listener whose registration is lost can't be taken back, and is in the
#: way of the next. In life the connection is lost with it, and the listener.
_NOT_LOST = 'domainEventRegisterAny'


class EveryStep(base.SnapshotTest):
    """The table of one path.

    :cvar path: as in ``[snapshot] method``
    """

    path: ClassVar[str]

    def test_call_is_refused(self) -> None:
        self._test_every_step(faults.Kind.REFUSED)

    def test_answer_is_lost(self) -> None:
        self._test_every_step(faults.Kind.LOST)

    def test_cancelled(self) -> None:
        self._test_every_step(faults.Kind.MEANWHILE)

    def _test_every_step(self, kind: faults.Kind) -> None:
        steps = faults.record(
            self.connection,
            lambda connection: self.snapshot(
                self.driver(connection, method=self.path)
            ),
        )
        table = exhaustive.drawn(
            {
                str(fault): fault
                for fault in faults.every_fault(
                    faults.without_polls(steps, keep=1), [kind]
                )
                if (fault.step.call, kind) != (_NOT_LOST, faults.Kind.LOST)
            }
        )
        failed = 0
        for name, fault in table.items():
            with self.subTest(name):
                # The agent of a guest that was suspended takes its time.
                wait_until(self.guest.agent_answers, 'the agent', TIMEOUT)
                failed += self._fails(fault)
        # A table in which little fails would prove little.
        if exhaustive.is_wanted():
            self.assertGreater(failed, len(table) // 3)
        self.guest.still_counts()

    def _fails(self, fault: faults.Fault) -> bool:
        """Whether a snapshot fails by the fault; the laws hold either way."""
        image = self.output / 'image'
        image.unlink(missing_ok=True)
        cancellation = Cancellation()

        def snapshot() -> exception.SnapshotError | None:
            try:
                self.driver(
                    interposer.connection, method=self.path
                ).snapshot_to_file(
                    Instance(self.guest.name),
                    str(image),
                    cancellation=cancellation,
                )
            except exception.SnapshotError as error:
                return error
            return None

        with faults.Interposer(
            self.connection, fault, lambda: cancellation.request('test')
        ) as interposer:
            error = self.laws_hold(snapshot)
        self.assertNotIsInstance(error, exception.UndoFailed)
        self.assertIs(error is None, image.exists())
        return error is not None
