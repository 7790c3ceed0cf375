# SPDX-License-Identifier: Apache-2.0
"""An attempt at the images of disks, by the planned method."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Generic
from typing import TypeVar

from nova_snapshot_driver.snapshot import space
from nova_snapshot_driver.snapshot.capture.base import Aftermath
from nova_snapshot_driver.snapshot.capture.base import CaptureTools
from nova_snapshot_driver.snapshot.delivery import Delivery
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.snapshot.result import Stopwatch
from nova_snapshot_driver.snapshot.session import Session
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.state.workspace import require_space
from nova_snapshot_driver.takings.freeze import Freeze

#: The captured disks: their views, or the clone that Ceph is to make.
Captured = TypeVar('Captured')


class Attempt(abc.ABC, Generic[Captured]):
    """An attempt: the disks at one instant, and their delivery.

    :param watch: runs since the attempt has begun
    :param disks_are_free: called when the disks of this host are not read or
        written any more
    """

    def __init__(
        self,
        session: Session,
        plan: Plan,
        watch: Stopwatch,
        disks_are_free: Callable[[], None],
    ) -> None:
        self._session = session
        self._settings = session.settings
        self._guest = session.guest
        self._request = session.request
        self._plan = plan
        self._quiesce = session.quiesce(plan)
        self._watch = watch
        self._disks_are_free = disks_are_free

    def take(self) -> Snapshot:
        with self._workspace() as workspace:
            tools = self._tools(workspace)
            self._plan = dataclasses.replace(
                self._plan,
                disks=tuple(
                    dataclasses.replace(each, size=self._size_of(each))
                    for each in self._plan.disks
                ),
            )
            self._request.states.pending_upload()
            self._watch.lap('prepare')
            with self._delivery(workspace) as delivery:
                self._read(delivery, tools)
                self._watch.lap('give_back')
                self._disks_are_free()
                proofs = delivery.complete()
            if delivery.completing is not None:
                self._watch.lap(delivery.completing)
        return Snapshot.of(
            self._guest,
            self._plan,
            self._quiesce,
            proofs,
            self._watch.laps,
            tuple(tools.aftermath.notes),
            tools.aftermath.is_unfinished,
        )

    def _read(self, delivery: Delivery[Captured], tools: CaptureTools) -> None:
        """Read all of the disks, then give the guest back."""
        entry, rest = self._entry(), self._rest()
        with self._session.taking(entry, rest) as keeping:
            with self._captured(tools) as captured:
                self._watch.lap('capture')
                delivery.read(captured)
                self._watch.lap(delivery.reading)
            if tools.aftermath.is_unfinished:
                keeping.afterwards = entry.without(Freeze)

    def _size_of(self, planned: PlannedDisk) -> int:
        """The size of a disk in bytes, as the guest sees it."""
        return space.disk_size(self._guest, planned.disk, planned.source)

    @abc.abstractmethod
    def _captured(
        self, tools: CaptureTools
    ) -> AbstractContextManager[Captured]:
        """The disks at one instant, for as long as the context lasts."""

    @abc.abstractmethod
    def _delivery(self, workspace: Workspace) -> Delivery[Captured]:
        """The way of the captured disks to the destination."""

    @abc.abstractmethod
    def _place_of_images(self, root: str) -> Place | None:
        """Where the images take room on this host; None for nowhere."""

    @abc.abstractmethod
    def _entry(self) -> Entry:
        """The journal entry of what the capture may take from the guest."""

    def _rest(self) -> Entry:
        """The journal entry of what stays once the guest is given back."""
        return self._session.unfinished

    @contextlib.contextmanager
    def _workspace(self) -> Iterator[Workspace]:
        """A directory for the temporary files, with the room they need."""
        root = self._settings.capture.snapshots_directory
        with Workspace.open(root, self._guest.uuid) as workspace:
            place = self._place_of_images(root)
            require_space(
                self._guest.name,
                space.needs(self._guest, self._plan, root, place),
            )
            yield workspace

    def _tools(self, workspace: Workspace) -> CaptureTools:
        return CaptureTools(
            self._settings.capture,
            workspace,
            self._quiesce,
            self._session.environment,
            self._request.progress,
            self._request.cancellation,
            Aftermath(),
            self._session.undo_tools(),
        )
