# SPDX-License-Identifier: Apache-2.0
"""A guest whose vCPUs are stopped."""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver.takings.managed_save import ManagedSave
from nova_snapshot_driver.takings.taking import HeldTaking
from nova_snapshot_driver.takings.tools import UndoTools


@dataclasses.dataclass(frozen=True)
class Pause(HeldTaking):
    """A guest that was found running is paused."""

    KIND = 'pause'
    OPERATION = 'resume'
    AFTER = frozenset({ManagedSave.KIND})

    def describe(self) -> str:
        return 'resume it'

    def state(self) -> str:
        return 'paused'

    def is_due(self, tools: UndoTools) -> bool:
        return tools.has_running_guest()

    def do(self, tools: UndoTools) -> None:
        tools.guest.power.pause(tools.settings.stall_timeout)

    def undo(self, tools: UndoTools) -> None:
        tools.guest.power.unpause()

    def remedy(self, tools: UndoTools) -> str:
        return f'Do it with "virsh resume {tools.domain}".'
