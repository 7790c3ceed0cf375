# SPDX-License-Identifier: Apache-2.0
"""A test of one guest, or of one of its roles."""

from __future__ import annotations

import testtools

from nova_snapshot_driver.hypervisor.domain import Disk
from tests.unit.host import DEVICES
from tests.unit.host import FakeHost


class GuestCase(testtools.TestCase):
    DEVICES = DEVICES

    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost(self.DEVICES))
        self.machine = self.host.machine
        self.guest = self.host.guest()

    def root(self) -> Disk:
        disk = self.guest.describe().root_disk
        assert disk is not None
        return disk
