# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from tests.unit import documents
from tests.unit.host import DEVICES
from tests.unit.hypervisor.guest_case import GuestCase

#: The seconds after which the test itself is at fault.
PATIENCE = 30


class DevicesTest(GuestCase):
    DEVICES = DEVICES + documents.PCI_DEVICE

    def test_detach_waits_for_the_guest(self) -> None:
        (device,) = self.guest.describe().host_devices
        self.guest.devices.detach(device, PATIENCE, Cancellation())
        self.assertEqual([], self.machine.host_devices())

    def test_guest_does_not_let_it_go(self) -> None:
        self.machine.releases = None
        (device,) = self.guest.describe().host_devices
        error = self.assertRaises(
            exception.DeviceNotReleased,
            self.guest.devices.detach,
            device,
            0,
            Cancellation(),
        )
        self.assertIn('hostdev0', str(error))
        self.assertIn('device_detach_timeout', str(error))
