# SPDX-License-Identifier: Apache-2.0
"""An image of a root disk, by the path that is planned."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver import space
from nova_snapshot_driver.capture import Capture
from nova_snapshot_driver.capture import Means
from nova_snapshot_driver.delivery import Delivery
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.result import Snapshot
from nova_snapshot_driver.result import Stopwatch
from nova_snapshot_driver.ways import Task
from nova_snapshot_driver.workspace import Workspace
from nova_snapshot_driver.workspace import require_space


class Attempt(abc.ABC):
    """One attempt at it: a view of the disk, and its delivery.

    :param watch: that runs since the attempt has begun
    :param disks_are_free: called when the disks of this host are not read or
        written any more
    """

    def __init__(
        self,
        task: Task,
        plan: Plan,
        watch: Stopwatch,
        disks_are_free: Callable[[], None],
    ) -> None:
        self._task = task
        self._conf = task.conf
        self._guest = task.guest
        self._request = task.request
        self._plan = plan
        self._quiesce = task.quiesce(plan)
        self._watch = watch
        self._disks_are_free = disks_are_free

    def take(self) -> Snapshot:
        with self._workspace() as workspace:
            means = self._means(workspace)
            self._request.states.pending_upload()
            self._watch.lap('prepare')
            with self._delivery(workspace) as delivery:
                with (
                    self._task.journal.kept(self._entry(), self._rest()),
                    self._capture()(self._guest, self._plan, means) as view,
                ):
                    self._watch.lap('capture')
                    delivery.read(view)
                    self._watch.lap(delivery.reading)
                self._watch.lap('give_back')
                self._disks_are_free()
                proof = delivery.complete()
            if not self._plan.stream:
                self._watch.lap('upload')
        return Snapshot.of(
            self._guest, self._plan, self._quiesce, proof, self._watch.laps
        )

    @abc.abstractmethod
    def _capture(self) -> Capture:
        """The way to the view."""

    @abc.abstractmethod
    def _delivery(self, workspace: Workspace) -> Delivery:
        """The way of that to the target."""

    @abc.abstractmethod
    def _entry(self) -> Entry:
        """What the capture may take from the guest, for the journal."""

    def _rest(self) -> Entry:
        """What stays in the journal once the guest has it back."""
        return self._task.unfinished

    @contextlib.contextmanager
    def _workspace(self) -> Iterator[Workspace]:
        """A place for the temporary files, with the room that they need."""
        root = self._conf.libvirt.snapshots_directory
        with Workspace.open(root, self._guest.uuid) as workspace:
            destination = self._request.target.destination(
                root, self._plan.stream
            )
            require_space(
                self._guest.name,
                space.needs(self._guest, self._plan, root, destination),
            )
            yield workspace

    def _means(self, workspace: Workspace) -> Means:
        return Means(
            self._conf,
            workspace,
            self._quiesce,
            self._task.surroundings,
            self._request.progress,
            self._request.cancellation,
            self._is_disowned,
        )

    def _is_disowned(self) -> bool:
        try:
            entry = self._task.journal.recall(self._guest.uuid)
        except exception.SnapshotError:
            return False
        return entry is not None and entry.is_given_back
