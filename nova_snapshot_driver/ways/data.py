# SPDX-License-Identifier: Apache-2.0
"""The image is made of the data of the disk, which this host reads."""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver.capture import Capture
from nova_snapshot_driver.capture import backup
from nova_snapshot_driver.capture import cold
from nova_snapshot_driver.capture import mirror
from nova_snapshot_driver.delivery import Conversion
from nova_snapshot_driver.delivery import Delivery
from nova_snapshot_driver.delivery import Stream
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.plan import Path
from nova_snapshot_driver.ways.attempt import Attempt
from nova_snapshot_driver.workspace import Workspace

CAPTURES: dict[Path, Capture] = {
    Path.BACKUP: backup.view,
    Path.MIRROR: mirror.view,
    Path.COLD: cold.view,
}


class Data(Attempt):
    """The data, streamed or converted."""

    def _capture(self) -> Capture:
        return CAPTURES[self._plan.path]

    def _delivery(self, workspace: Workspace) -> Delivery:
        if self._plan.stream:
            return Stream(self._conf, self._request, self._plan, self._quiesce)
        return Conversion(
            self._conf, self._request, self._plan, self._quiesce, workspace
        )

    def _entry(self) -> Entry:
        entry = dataclasses.replace(
            self._task.unfinished, frozen=self._plan.freeze
        )
        if self._plan.path is Path.BACKUP:
            # The domain keeps its definition, and its job is found in libvirt.
            return entry
        guest = self._guest
        suspended = self._plan.path is Path.COLD and guest.is_active()
        return dataclasses.replace(
            entry,
            definition=guest.definition(),
            persistent=guest.persistent(),
            power_state=self._plan.power_state if suspended else None,
            devices=guest.describe().host_devices if suspended else (),
        )
