# SPDX-License-Identifier: Apache-2.0
"""The image is a clone of the disk, which Ceph makes."""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver.capture import Capture
from nova_snapshot_driver.capture import Means
from nova_snapshot_driver.capture import direct
from nova_snapshot_driver.delivery import Adoption
from nova_snapshot_driver.delivery import Delivery
from nova_snapshot_driver.glance import Glance
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.rbd import Ceph
from nova_snapshot_driver.rbd import Clone
from nova_snapshot_driver.result import Snapshot
from nova_snapshot_driver.ways.attempt import Attempt
from nova_snapshot_driver.workspace import Workspace


class Direct(Attempt):
    """A clone, of which Glance is told."""

    _clone: Clone

    def take(self) -> Snapshot:
        self._clone = self._find()
        return super().take()

    def _find(self) -> Clone:
        """What is to be made in Ceph; nothing is, yet."""
        disk, target = self._plan.disk.rbd, self._request.target
        assert disk and target.context and target.image  # noqa: S101 (mypy)
        return direct.find(
            self._guest,
            Ceph(self._conf, disk.user),
            disk,
            Glance(target.context.glance_access()),
            target.image,
        )

    def _capture(self) -> Capture:
        return direct.view

    def _means(self, workspace: Workspace) -> Means:
        return dataclasses.replace(
            super()._means(workspace), clone=self._clone
        )

    def _delivery(self, workspace: Workspace) -> Delivery:
        return Adoption(
            self._conf,
            self._guest.name,
            self._request,
            self._plan,
            self._quiesce,
            self._clone,
        )

    def _entry(self) -> Entry:
        return dataclasses.replace(self._rest(), frozen=self._plan.freeze)

    def _rest(self) -> Entry:
        return dataclasses.replace(super()._rest(), clone=self._clone)
