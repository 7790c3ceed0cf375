# SPDX-License-Identifier: Apache-2.0
"""Snapshots in Cinder that are made for an image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Iterable

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import cinder
from nova_snapshot_driver.clients import glance
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.cinder import Cinder
from nova_snapshot_driver.clients.cinder import VolumeSnapshot
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.takings.left_behind import image_left_behind
from nova_snapshot_driver.takings.left_behind import require_sight
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.tools import UndoTools

LOG = logging.getLogger(__name__)

#: The metadata by which a snapshot in Cinder is known to be ours, whatever
#: became of the answer to the request for it: the id of the image.
MARK = 'nova_snapshot_image'

#: How often Cinder is asked how far it has come while nothing stands still for
#: it, in seconds.
PATIENT_INTERVAL = 0.5

#: How long a request that was given up may still be under way, in seconds,
#: when Cinder answers again.
LATE_REQUEST = 5.0

#: How long a nova-compute that starts, or a snapshot that begins, tries to
#: delete the snapshots in Cinder of one that died, in seconds.
RECOVERY_PATIENCE = 30


@dataclasses.dataclass(frozen=True)
class CinderSnapshots(Taking):
    """
    :ivar image: the id of the image that they are made for
    :ivar volumes: the ids of those that may have one
    :ivar project: that the image belongs to; None where nobody knows
    """

    image: str
    volumes: tuple[str, ...]
    project: str | None = None

    KIND = 'cinder-snapshots'
    WHOSE = Whose.IMAGE
    NEEDS_GLANCE = True

    def describe(self) -> str:
        return (
            f'delete the snapshots of volumes for image {self.image}, unless '
            'it is complete'
        )

    def state(self) -> str:
        return f'snapshots of volumes {", ".join(self.volumes)}'

    def undo(self, tools: UndoTools) -> None:
        """
        :raises ImageLeftBehind: they are not known to be deleted
        """
        cloud = require_sight(tools.cloud, self.image, self.project)
        try:
            self._discard(cloud, tools.settings.volume_timeout)
        except exception.SnapshotError as error:
            raise image_left_behind(self.image, error) from error

    def _discard(self, cloud: Context, timeout: int) -> None:
        # An image that is complete is somebody's, with all that it maps.
        if glance.is_complete(Glance(cloud.glance_access()), self.image):
            return
        discard(
            lambda: Cinder(cloud.cinder_access()),
            self.image,
            self.volumes,
            min(timeout, RECOVERY_PATIENCE),
            # The dead snapshot's last request may still be under way.
            late=LATE_REQUEST,
            cause='it died',
        )


def discard(
    connect: Callable[[], Cinder],
    image: str,
    volumes: Iterable[str],
    patience: float,
    late: float,
    cause: object,
) -> None:
    """See that no snapshot is left that was made for an image.

    :param patience: the seconds after which it is given up
    :param late: the seconds in which one may still appear, once Cinder
        answers
    :param cause: why they are not wanted
    :raises VolumeSnapshotsLeftBehind: it has been given up
    """
    removal = _Removal(connect, image, list(volumes), late)
    if not wait.holds_within(
        removal.is_done, patience, interval=PATIENT_INTERVAL
    ):
        raise exception.VolumeSnapshotsLeftBehind(
            cause=str(cause) or type(cause).__name__,
            reason=removal.reason.rstrip('.'),
            volumes=', '.join(removal.volumes),
            mark=MARK,
            image=image,
        )


@dataclasses.dataclass
class _Removal:
    """The removal of the snapshots of an image, as far as it has come.

    :ivar reason: why it is not done
    :ivar first_answer: when Cinder has answered for the first time
    """

    connect: Callable[[], Cinder]
    image: str
    volumes: list[str]
    late: float
    reason: str = ''
    first_answer: float | None = None

    def is_done(self) -> bool:
        """Go on with it; whether none is left, and none may still appear."""
        self.reason = 'they are still there'
        try:
            connection = self.connect()
            found = _marked(connection, self.image, self.volumes)
            now = wait.CLOCK.monotonic()
            self.first_answer = self.first_answer or now
            for snapshot in found:
                self.reason = delete(connection, snapshot) or self.reason
        except (
            exception.CinderError,
            exception.CinderAccessUnavailable,
        ) as error:
            self.reason = str(error)
            return False
        return not found and now >= self.first_answer + self.late


def delete(connection: Cinder, snapshot: VolumeSnapshot) -> str | None:
    """
    :returns: why Cinder does not; one that is being made has to be there first
    """
    if snapshot.status == cinder.DELETING:
        return None
    LOG.info(
        'Snapshot %s of volume %s is deleted: there is no image of it',
        snapshot.id,
        snapshot.volume,
    )
    try:
        connection.delete_snapshot(snapshot.id)
    except exception.CinderError as error:
        return str(error)
    return None


def _marked(
    connection: Cinder, image: str, volumes: Iterable[str]
) -> list[VolumeSnapshot]:
    return [
        snapshot
        for volume in volumes
        for snapshot in connection.snapshots_of(volume)
        if snapshot.metadata.get(MARK) == image
    ]
