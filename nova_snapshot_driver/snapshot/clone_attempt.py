# SPDX-License-Identifier: Apache-2.0
"""An image that is a clone of the disk, made by Ceph."""

from __future__ import annotations

from contextlib import AbstractContextManager

from nova_snapshot_driver.clients import rbd
from nova_snapshot_driver.clients.rbd import Ceph
from nova_snapshot_driver.clients.rbd import Clone
from nova_snapshot_driver.snapshot.attempt import Attempt
from nova_snapshot_driver.snapshot.capture import ceph_clone
from nova_snapshot_driver.snapshot.capture.base import CaptureTools
from nova_snapshot_driver.snapshot.delivery import CloneDelivery
from nova_snapshot_driver.snapshot.delivery import Delivery
from nova_snapshot_driver.snapshot.destination.base import Adopting
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.takings.ceph_clone import CephClone
from nova_snapshot_driver.takings.ceph_clone import CephSnapshot
from nova_snapshot_driver.takings.freeze import Freeze


class CloneAttempt(Attempt[Clone]):
    """A clone of one disk inside Ceph, whose location Glance is given."""

    _clone: Clone

    def take(self) -> Snapshot:
        self._clone = self._find()
        return super().take()

    def _find(self) -> Clone:
        """Name the clone that Ceph is to make, without making it."""
        [planned] = self._plan.disks
        disk, destination = planned.disk.rbd, self._destination
        assert disk is not None  # noqa: S101 (for mypy)
        return ceph_clone.find(
            self._guest,
            Ceph(self._settings.undo.ceph, disk.user),
            disk,
            destination.glance(),
            destination.image,
        )

    def _size_of(self, planned: PlannedDisk) -> int:
        with rbd.refusals(self._guest.name):
            return Ceph(self._settings.undo.ceph, self._clone.disk.user).size(
                self._clone.disk
            )

    def _captured(self, tools: CaptureTools) -> AbstractContextManager[Clone]:
        return ceph_clone.captured(self._guest, self._clone, tools)

    def _delivery(self, workspace: Workspace) -> Delivery[Clone]:
        return CloneDelivery(
            self._session,
            self._plan,
            self._quiesce,
            self._clone,
            self._destination,
        )

    def _place_of_images(self, root: str) -> Place | None:
        return None

    @property
    def _destination(self) -> Adopting:
        destination = self._request.destination
        assert isinstance(destination, Adopting)  # noqa: S101 (for mypy)
        return destination

    def _entry(self) -> Entry:
        return self._rest().with_(*([Freeze()] if self._plan.freeze else []))

    def _rest(self) -> Entry:
        return (
            super()
            ._rest()
            .with_(CephSnapshot(self._clone), CephClone(self._clone))
        )
