# SPDX-License-Identifier: Apache-2.0
"""A device of the host that a guest does not have."""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver.hypervisor.domain import HostDevice
from nova_snapshot_driver.takings.managed_save import ManagedSave
from nova_snapshot_driver.takings.taking import HeldTaking
from nova_snapshot_driver.takings.tools import UndoTools


@dataclasses.dataclass(frozen=True)
class DetachedDevice(HeldTaking):
    """A device is detached, with which no guest can be saved."""

    device: HostDevice

    KIND = 'device'
    AFTER = frozenset({ManagedSave.KIND})

    def describe(self) -> str:
        return f'attach {self.device.alias}'

    @property
    def operation(self) -> str:
        return self.describe()

    def state(self) -> str:
        return f'without {self.device.alias}'

    def is_due(self, tools: UndoTools) -> bool:
        # A device that is still there may have been asked to go.
        return tools.has_running_guest()

    def do(self, tools: UndoTools) -> None:
        tools.guest.devices.detach(
            self.device,
            tools.settings.device_detach_timeout,
            tools.cancellation,
        )

    def undo(self, tools: UndoTools) -> None:
        tools.guest.devices.attach(
            self.device, tools.settings.device_detach_timeout
        )

    def remedy(self, tools: UndoTools) -> str:
        return (
            'Attach the device with "virsh attach-device", or stop the '
            'guest and start it again.'
        )
