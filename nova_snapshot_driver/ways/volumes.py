# SPDX-License-Identifier: Apache-2.0
"""The way of a root disk that is a volume.

Cinder snapshots all volumes of the instance at one instant, and the image maps
the snapshots.
"""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver import metadata
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.plan import Pause
from nova_snapshot_driver.plan import VolumesPlan
from nova_snapshot_driver.plan import make_volumes_plan
from nova_snapshot_driver.result import Snapshot
from nova_snapshot_driver.result import Stopwatch
from nova_snapshot_driver.stillness import Stillness
from nova_snapshot_driver.volumes import ImageOfVolumes
from nova_snapshot_driver.ways import Task


class VolumesWay:
    """All volumes.

    :param target: that of the task
    """

    def __init__(self, task: Task, target: ImageOfVolumes) -> None:
        self._task = task
        self._target = target

    def check(self) -> None:
        self._plan()

    def take(self) -> Snapshot:
        watch = Stopwatch()
        plan = self._plan()
        self._task.announce(plan)
        with self._task.reported(plan) as task:
            guest, request = task.guest, task.request
            quiesce = task.quiesce(plan)
            stillness = Stillness(
                guest, plan, quiesce, task.conf.snapshot.stillness_timeout
            )
            snapshots = self._target.snapshots
            snapshots.prepare(self._target.name())
            quiesce.check()
            request.states.pending_upload()
            watch.lap('prepare')
            with (
                task.journal.kept(self._entry(plan), task.unfinished),
                stillness.held() as until,
            ):
                snapshots.cut(guest.name, until, request.cancellation)
            watch.lap('cut')
            snapshots.wait_until_available(
                request.progress, request.cancellation
            )
            watch.lap('wait')
            request.states.uploading()
            # Whoever cancels it before it is shown is heard.
            request.cancellation.check()
            self._target.describe(
                metadata.of_volumes(plan, quiesce, stillness)
            )
            watch.lap('describe')
        return Snapshot.of_volumes(
            guest, plan, quiesce, stillness, snapshots.ids(), watch.laps
        )

    def _plan(self) -> VolumesPlan:
        guest = self._task.guest
        return make_volumes_plan(
            self._task.conf,
            self._task.request.instance,
            guest.describe(),
            guest.power_state(),
            len(self._target.volumes),
        )

    def _entry(self, plan: VolumesPlan) -> Entry:
        """What the snapshot may take from the guest, for the journal."""
        return dataclasses.replace(
            self._task.unfinished,
            frozen=plan.freeze,
            paused=plan.pause is not Pause.NEVER,
        )
