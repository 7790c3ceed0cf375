# SPDX-License-Identifier: Apache-2.0
"""An image that has what has changed on a disk since the snapshot before."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common.codec import FilePath
from nova_snapshot_driver.common.view import Views
from nova_snapshot_driver.hypervisor.checkpoint_xml import UNTRACKED
from nova_snapshot_driver.snapshot.delivery import Delivery
from nova_snapshot_driver.snapshot.delivery import IncrementDelivery
from nova_snapshot_driver.snapshot.destination.base import Incremental
from nova_snapshot_driver.snapshot.plan.increment import Increment
from nova_snapshot_driver.snapshot.read_attempt import ReadAttempt
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.takings.bitmaps import BitmapTaking
from nova_snapshot_driver.takings.bitmaps import NewBitmap
from nova_snapshot_driver.takings.bitmaps import OldBitmap
from nova_snapshot_driver.takings.checkpoint_metadata import CheckpointMetadata
from nova_snapshot_driver.takings.taking import Taking


class IncrementAttempt(ReadAttempt):
    """An attempt at an increment of a chain, or at its first image.

    One bitmap is left afterwards: the new one where the attempt succeeds, and
    else the old one, which has gone on recording.
    """

    def take(self) -> Snapshot:
        try:
            snapshot = super().take()
        except BaseException:
            self._remove_bitmaps()
            raise
        try:
            self._remove_bitmaps()
        except exception.UndoFailed as error:
            # The snapshot is complete, and the journal knows of the rest.
            note = f'The snapshot is complete. {error}'
            return dataclasses.replace(
                snapshot, notes=(*snapshot.notes, note), unfinished=True
            )
        return snapshot

    def _remove_bitmaps(self) -> None:
        """Remove the bitmaps that are of no use.

        :raises UndoFailed: one stays
        """
        for taking in self._bitmaps():
            self._remove_if_due(taking)

    def _remove_if_due(self, taking: BitmapTaking) -> None:
        tools = self._session.undo_tools()

        def remove() -> None:
            if taking.is_due(tools):
                taking.undo(tools)

        undo.retry_undo(
            self._guest.name,
            taking.describe(),
            remove,
            'The next snapshot of it tries again. The bitmap takes some KiB '
            'of the disk until then.',
        )

    def _delivery(self, workspace: Workspace) -> Delivery[Views]:
        return IncrementDelivery(
            self._session,
            self._plan,
            self._quiesce,
            self._destination,
            self._tools(workspace),
        )

    def _place_of_images(self, _root: str) -> Place | None:
        return self._destination.place

    def _rest(self) -> Entry:
        return super()._rest().with_(*self._bitmaps())

    def _takings(self) -> Iterator[Taking]:
        yield from super()._takings()
        if self._increment.tracking != UNTRACKED:
            yield CheckpointMetadata()

    def _bitmaps(self) -> Iterator[BitmapTaking]:
        record = FilePath(self._destination.record)
        new = self._increment.tracking.new
        if new is not None:
            yield NewBitmap(new, record)
        for bitmap in self._destination.bitmaps_before:
            yield OldBitmap(bitmap, record)

    @property
    def _increment(self) -> Increment:
        increment = self._plan.increment
        assert increment is not None  # noqa: S101 (for mypy)
        return increment

    @property
    def _destination(self) -> Incremental:
        destination = self._request.destination
        assert isinstance(destination, Incremental)  # noqa: S101 (for mypy)
        return destination
