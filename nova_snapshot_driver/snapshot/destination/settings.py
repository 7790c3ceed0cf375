# SPDX-License-Identifier: Apache-2.0
"""The settings of destinations."""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver.clients.rbd import CephSettings
from nova_snapshot_driver.transfer.settings import TransferSettings


@dataclasses.dataclass(frozen=True)
class DestinationSettings:
    """The options that destinations depend on.

    :ivar retries: how often a request to Glance that failed is repeated
    :ivar volume_timeout: the seconds that Cinder may take
    :ivar stall_timeout: the seconds in which all snapshots of volumes are
        created
    :ivar state_directory: in which the ledger lies
    :ivar volume_type: of new volumes; None for Cinder's default
    :ivar snapshots_take_gigabytes: of the quota for volumes
    :ivar ceph: the way to the volumes
    """

    transfer: TransferSettings
    retries: int
    volume_timeout: int
    stall_timeout: int
    state_directory: str
    volume_type: str | None
    snapshots_take_gigabytes: bool
    ceph: CephSettings
