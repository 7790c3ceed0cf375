# SPDX-License-Identifier: Apache-2.0
"""Every way of a snapshot, on every shape of disk, in every state.

Whether there is an agent, and whether it answers, is decided and done without
a look at the disk: guests without one, and agents that hang, are tried on one
shape.
"""

from __future__ import annotations

from lab.options import Bus
from lab.options import GuestOptions
from lab.options import Shape
from nova_snapshot_driver import exception
from tests.functional import base
from tests.functional import matrix


class RawTest(matrix.Matrix):
    options = GuestOptions('raw', Shape.RAW)


class Qcow2Test(matrix.WithHangingAgent):
    options = GuestOptions('qcow2', Shape.QCOW2)

    def test_required_hanging_agent(self) -> None:
        for path in ('backup', 'mirror', 'cold'):
            matrix.hang_agent(self)
            driver = self.driver(method=path, quiesce='require')
            self.snapshot_fails(exception.QuiesceFailed, driver)
            matrix.wait_for_agent(self)


class Qcow2WithoutAgentTest(matrix.WithoutAgent):
    options = GuestOptions('qcow2-no', Shape.QCOW2, agent=False)


class RawBaseTest(matrix.Matrix):
    options = GuestOptions('raw-base', Shape.RAW_BASE)


class ChainOfTwoTest(matrix.Matrix):
    options = GuestOptions('chain2', Shape.CHAIN2)


class ChainOfThreeTest(matrix.Matrix):
    options = GuestOptions('chain3', Shape.CHAIN3)


class IdeTest(base.SnapshotTest):
    """The root disk is found, whatever it is called."""

    options = GuestOptions('ide', bus=Bus.IDE)

    def test_root_disk(self) -> None:
        self.assertEqual(['hda'], self.guest.targets)
        for path in ('backup', 'mirror', 'cold'):
            matrix.taken(self, path)
        self.guest.still_counts()


class ScsiTest(base.SnapshotTest):
    options = GuestOptions('scsi', bus=Bus.SCSI)

    def test_root_disk(self) -> None:
        self.assertEqual(['sda'], self.guest.targets)
        for path in ('backup', 'mirror', 'cold'):
            matrix.taken(self, path)
        self.guest.still_counts()


class TransientTest(base.SnapshotTest):
    """A domain that was never persistent."""

    options = GuestOptions('transient', persistent=False)

    def test_live(self) -> None:
        for path in ('backup', 'mirror'):
            matrix.taken(self, path)
        self.guest.still_counts()

    def test_cold_is_refused(self) -> None:
        error = self.snapshot_fails(
            exception.HypervisorError, self.driver(method='cold')
        )
        self.assertIn('transient', str(error))
        self.guest.still_counts()
