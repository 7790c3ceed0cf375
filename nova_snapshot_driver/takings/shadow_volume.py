# SPDX-License-Identifier: Apache-2.0
"""A shadow volume: one in Cinder that takes the snapshots of a disk.

No server has it. It is attached to the host of its server while it is written,
and belongs to the project of whoever asks for the snapshots.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import cinder
from nova_snapshot_driver.clients import glance
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.cinder import Volume
from nova_snapshot_driver.clients.cinder_volumes import CinderVolumes
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.takings import cinder_snapshots
from nova_snapshot_driver.takings.left_behind import image_left_behind
from nova_snapshot_driver.takings.left_behind import require_sight
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.tools import UndoTools

#: The metadata by which a volume is known to be the shadow of a server: the
#: id of the server.
OF = 'nova_snapshot_of'

#: The metadata that says which snapshot has attached it last: the id of its
#: image.
WRITER = 'nova_snapshot_writer'


@dataclasses.dataclass(frozen=True)
class ShadowVolume(Taking):
    """The shadow may be new, may be attached, and may have a snapshot.

    :ivar image: the id of the image that is made of it
    :ivar server: the id of the server
    :ivar project: that the image belongs to; None where nobody knows
    """

    image: str
    server: str
    project: str | None = None

    KIND = 'shadow-volume'
    WHOSE = Whose.IMAGE
    NEEDS_GLANCE = True

    def describe(self) -> str:
        return (
            f'give back the volume that takes image {self.image}, without its '
            'snapshot unless the image is complete'
        )

    def state(self) -> str:
        return f'volume for image {self.image}'

    def undo(self, tools: UndoTools) -> None:
        """
        :raises ImageLeftBehind: it is not known to be given back
        """
        cloud = require_sight(tools.cloud, self.image, self.project)
        try:
            self._give_back(cloud, tools.settings.volume_timeout)
        except exception.SnapshotError as error:
            raise image_left_behind(self.image, error) from error

    def _give_back(self, cloud: Context, timeout: int) -> None:
        give_back(
            lambda: CinderVolumes(cloud.cinder_access()),
            self.server,
            self.image,
            min(timeout, cinder_snapshots.RECOVERY_PATIENCE),
            # The dead snapshot's last request may still be under way.
            late=cinder_snapshots.LATE_REQUEST,
            cause='it died',
            keeps=glance.is_complete(
                Glance(cloud.glance_access()), self.image
            ),
        )


def give_back(
    connect: Callable[[], CinderVolumes],
    server: str,
    image: str,
    patience: float,
    late: float,
    cause: object,
    keeps: bool = False,
) -> None:
    """See that a shadow is attached to no host, and has no snapshot too many.

    A shadow without any snapshot is deleted: nobody could use it.

    :param image: that was to be made of it
    :param patience: the seconds after which it is given up
    :param late: the seconds in which a thing may still appear, once Cinder
        answers
    :param cause: why the snapshot is not wanted
    :param keeps: the image is complete, and needs the snapshot
    :raises VolumeLeftBehind: it has been given up
    """
    release = _Release(connect, server, image, late, keeps)
    if not wait.holds_within(
        release.is_done,
        patience,
        interval=cinder_snapshots.PATIENT_INTERVAL,
    ):
        raise exception.VolumeLeftBehind(
            cause=str(cause) or type(cause).__name__,
            reason=release.reason.rstrip('.'),
            mark=WRITER,
            image=image,
        )


@dataclasses.dataclass
class _Release:
    """The release of the shadow of a server, as far as it has come.

    :ivar reason: why it is not done
    :ivar first_answer: when Cinder has answered for the first time
    """

    connect: Callable[[], CinderVolumes]
    server: str
    image: str
    late: float
    keeps: bool
    reason: str = ''
    first_answer: float | None = None

    def is_done(self) -> bool:
        """Go on with it; whether it is done, and nothing may still appear."""
        try:
            connection = self.connect()
            written = connection.volumes_with(
                {OF: self.server, WRITER: self.image}, everywhere=True
            )
            now = wait.CLOCK.monotonic()
            self.first_answer = self.first_answer or now
            # Each of them is gone on with, whatever becomes of another.
            left = [
                volume
                for volume in written
                if not self._is_released(connection, volume)
            ]
        except (
            exception.CinderError,
            exception.CinderAccessUnavailable,
        ) as error:
            self.reason = str(error)
            return False
        return not left and now >= self.first_answer + self.late

    def _is_released(self, connection: CinderVolumes, volume: Volume) -> bool:
        self.reason = f'the volume {volume.id} is still attached'
        attachments = [
            each
            for each in connection.attachments_of(volume.id)
            if each.server is None
        ]
        for attachment in attachments:
            connection.detach(volume.id, attachment)
        if attachments or self.keeps:
            return not attachments
        return self._has_no_more_than_before(connection, volume)

    def _has_no_more_than_before(
        self, connection: CinderVolumes, volume: Volume
    ) -> bool:
        self.reason = f'the volume {volume.id} still has the snapshot'
        snapshots = connection.snapshots_of(volume.id)
        ours = [
            each
            for each in snapshots
            if each.metadata.get(cinder_snapshots.MARK) == self.image
        ]
        for snapshot in ours:
            self.reason = (
                cinder_snapshots.delete(connection, snapshot) or self.reason
            )
        if snapshots:
            return not ours
        self.reason = f'the volume {volume.id} is still there'
        if volume.status != cinder.DELETING:
            connection.delete_volume(volume.id)
        return False
