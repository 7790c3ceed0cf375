# SPDX-License-Identifier: Apache-2.0
"""Every way of a snapshot, on every shape of disk, in every state."""

from __future__ import annotations

from nova_snapshot_driver import exception
from tests.functional import base
from tests.functional import matrix
from tests.lab.options import Bus
from tests.lab.options import GuestOptions
from tests.lab.options import Shape


class RawTest(matrix.WithAgent):
    options = GuestOptions('raw', Shape.RAW)


class RawWithoutAgentTest(matrix.WithoutAgent):
    options = GuestOptions('raw-no', Shape.RAW, agent=False)


class Qcow2Test(matrix.WithAgent):
    options = GuestOptions('qcow2', Shape.QCOW2)

    def test_required_hanging_agent(self) -> None:
        """Once: the shape of the disk has no part in it."""
        for path in ('backup', 'mirror', 'cold'):
            matrix.hang_agent(self)
            driver = self.driver(path=path, quiesce='require')
            self.snapshot_fails(exception.QuiesceFailed, driver)
            matrix.wait_for_agent(self)


class Qcow2WithoutAgentTest(matrix.WithoutAgent):
    options = GuestOptions('qcow2-no', Shape.QCOW2, agent=False)


class RawBaseTest(matrix.WithAgent):
    options = GuestOptions('raw-base', Shape.RAW_BASE)


class RawBaseWithoutAgentTest(matrix.WithoutAgent):
    options = GuestOptions('raw-base-no', Shape.RAW_BASE, agent=False)


class ChainOfTwoTest(matrix.WithAgent):
    options = GuestOptions('chain2', Shape.CHAIN2)


class ChainOfTwoWithoutAgentTest(matrix.WithoutAgent):
    options = GuestOptions('chain2-no', Shape.CHAIN2, agent=False)


class ChainOfThreeTest(matrix.WithAgent):
    options = GuestOptions('chain3', Shape.CHAIN3)


class ChainOfThreeWithoutAgentTest(matrix.WithoutAgent):
    options = GuestOptions('chain3-no', Shape.CHAIN3, agent=False)


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
            exception.HypervisorError, self.driver(path='cold')
        )
        self.assertIn('transient', str(error))
        self.guest.still_counts()
