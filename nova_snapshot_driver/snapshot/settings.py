# SPDX-License-Identifier: Apache-2.0
"""The settings of snapshots on one host."""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver.snapshot.capture.settings import CaptureSettings
from nova_snapshot_driver.snapshot.destination.settings import (
    DestinationSettings,
)
from nova_snapshot_driver.snapshot.plan.settings import PlanSettings
from nova_snapshot_driver.takings.tools import UndoSettings
from nova_snapshot_driver.transfer.settings import TransferSettings


@dataclasses.dataclass(frozen=True)
class Settings:
    """The options of a host, as its doors have read them.

    :ivar deadline: the seconds that a snapshot may take; 0 is no limit
    """

    deadline: int
    plan: PlanSettings
    capture: CaptureSettings
    transfer: TransferSettings
    destination: DestinationSettings
    undo: UndoSettings
