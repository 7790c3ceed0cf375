# SPDX-License-Identifier: Apache-2.0
"""The channel of a guest agent, which is attached anew."""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver.takings.device import DetachedDevice
from nova_snapshot_driver.takings.tools import UndoTools


@dataclasses.dataclass(frozen=True)
class AgentChannel(DetachedDevice):
    """The channel is detached for a moment, where libvirt lost the agent."""

    KIND = 'agent-channel'

    def describe(self) -> str:
        return 'attach the channel of its agent'

    @property
    def operation(self) -> str:
        return f'attach {self.device.alias}'

    def do(self, tools: UndoTools) -> None:
        # No cancellation: the guest is being given back.
        timeout = tools.settings.device_detach_timeout
        tools.guest.devices.detach(self.device, timeout)

    def is_due(self, tools: UndoTools) -> bool:
        return tools.has_running_guest() and not tools.guest.devices.has(
            self.device
        )
