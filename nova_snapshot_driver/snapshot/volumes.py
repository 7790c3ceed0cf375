# SPDX-License-Identifier: Apache-2.0
"""The snapshot of a root disk that is a volume.

Cinder snapshots all volumes of the instance at one instant, and the image maps
the snapshots.
"""

from __future__ import annotations

from nova_snapshot_driver.snapshot.capture.pause import Stall
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.snapshot.destination.volume_image import (
    VolumeBackedImage,
)
from nova_snapshot_driver.snapshot.plan.model import Pause
from nova_snapshot_driver.snapshot.plan.model import VolumesPlan
from nova_snapshot_driver.snapshot.plan.planner import make_volumes_plan
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.snapshot.result import Stopwatch
from nova_snapshot_driver.snapshot.session import Session
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.takings import pause
from nova_snapshot_driver.takings.freeze import Freeze


class VolumesSnapshot:
    """The snapshot of all volumes of an instance.

    :param destination: that of the session
    """

    def __init__(
        self, session: Session, destination: VolumeBackedImage
    ) -> None:
        self._session = session
        self._destination = destination

    def check(self) -> None:
        self._plan()

    def take(self) -> Snapshot:
        watch = Stopwatch()
        plan = self._plan()
        self._session.announce(plan)
        with self._session.reported(plan) as session:
            guest, request = session.guest, session.request
            quiesce = session.quiesce(plan)
            stall = Stall(plan, quiesce, session.undo_tools())
            snapshots = self._destination.snapshots
            snapshots.prepare(self._destination.name())
            quiesce.check()
            request.states.pending_upload()
            watch.lap('prepare')
            with (
                session.taking(self._entry(plan), session.unfinished),
                stall.held() as until,
            ):
                snapshots.create(guest.name, until, request.cancellation)
            watch.lap('create')
            snapshots.wait_until_available(
                request.progress, request.cancellation
            )
            watch.lap('wait')
            request.states.uploading()
            # A cancellation counts until the image shows the snapshots.
            request.cancellation.check()
            proof = self._destination.describe(
                metadata.of_volumes(plan, quiesce, stall)
            )
            watch.lap('describe')
        return Snapshot.of_volumes(
            guest,
            plan,
            quiesce,
            stall,
            snapshots.ids(),
            proof,
            watch.laps,
        )

    def _plan(self) -> VolumesPlan:
        # Ask for the state first: a guest that has stopped may have another
        # description.
        power_state = self._session.power_state()
        return make_volumes_plan(
            self._session.settings.plan,
            self._session.request.instance,
            self._session.guest.describe(),
            power_state,
            len(self._destination.snapshots.volumes),
        )

    def _entry(self, plan: VolumesPlan) -> Entry:
        """The entry in the journal of all that the snapshot may take."""
        return self._session.unfinished.with_(
            *([Freeze()] if plan.freeze else []),
            *([pause.Pause()] if plan.pause is not Pause.NEVER else []),
        )
