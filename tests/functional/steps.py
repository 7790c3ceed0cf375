# SPDX-License-Identifier: Apache-2.0
"""A snapshot in which one call to libvirt goes wrong."""

from __future__ import annotations

from typing import ClassVar

from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.instance import Instance
from tests import faults
from tests.functional import base
from tests.lab.bounded import wait_until

#: Seconds
TIMEOUT = 30

#: A listener whose registration is lost can't be taken back, and is in the
#: way of the next. In life the connection is lost with it, and the listener.
_NOT_LOST = 'domainEventRegisterAny'


class EveryStep(base.SnapshotTest):
    """The table of one path.

    :cvar path: as in ``[snapshot] path``
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
                self.driver(connection, self.path)
            ),
        )
        table = [
            fault
            for fault in faults.every_fault(
                faults.without_polls(steps, keep=1), [kind]
            )
            if (fault.step.call, kind) != (_NOT_LOST, faults.Kind.LOST)
        ]
        failed = 0
        for fault in table:
            with self.subTest(str(fault)):
                # That of a guest that was suspended takes its time.
                wait_until(self.guest.agent_answers, 'the agent', TIMEOUT)
                failed += self._fails(fault)
        # A table in which little fails would prove little.
        self.assertGreater(failed, len(table) // 3)
        self.guest.still_counts()

    def _fails(self, fault: faults.Fault) -> bool:
        """Whether a snapshot fails by the fault; the laws hold either way."""
        image = self.output / 'image'
        image.unlink(missing_ok=True)
        cancellation = Cancellation()

        def snapshot() -> exception.SnapshotError | None:
            try:
                self.driver(interposer.connection, self.path).snapshot_to_file(
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
        self.assertNotIsInstance(error, exception.NotGivenBack)
        self.assertIs(error is None, image.exists())
        return error is not None
