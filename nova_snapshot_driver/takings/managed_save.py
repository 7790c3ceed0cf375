# SPDX-License-Identifier: Apache-2.0
"""A guest whose memory is saved, and which is stopped."""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.takings.taking import HeldTaking
from nova_snapshot_driver.takings.tools import UndoTools


@dataclasses.dataclass(frozen=True)
class ManagedSave(HeldTaking):
    """
    :ivar power_state: in which the guest was found
    """

    power_state: PowerState

    KIND = 'managed-save'
    OPERATION = 'start from the managed save'
    STARTS_GUEST = True

    def describe(self) -> str:
        return f'have it {self.power_state.value} again'

    def state(self) -> str:
        return 'suspended'

    def do(self, tools: UndoTools) -> None:
        tools.guest.power.managed_save(
            tools.settings.suspend_timeout, tools.cancellation
        )

    def undo(self, tools: UndoTools) -> None:
        tools.guest.power.resume_from_save(self.power_state)

    def remedy(self, tools: UndoTools) -> str:
        return (
            'Nothing of its memory is lost: start it with "virsh start '
            f'{tools.domain}", and thaw it with "virsh domfsthaw '
            f'{tools.domain}" if it was quiesced.'
        )
