# SPDX-License-Identifier: Apache-2.0
"""The shadow of a disk: a volume in Cinder that gets all of its snapshots.

Cinder alone knows what there is: a shadow is found by its metadata, and so is
the state that it has, wherever its server has been migrated to.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import cinder
from nova_snapshot_driver.clients.cinder import Volume
from nova_snapshot_driver.clients.cinder import VolumeSnapshot
from nova_snapshot_driver.clients.cinder_volumes import Attachment
from nova_snapshot_driver.clients.cinder_volumes import CinderVolumes
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.snapshot.destination.settings import (
    DestinationSettings,
)
from nova_snapshot_driver.snapshot.destination.standing import SETTLED
from nova_snapshot_driver.snapshot.destination.standing import ShadowSnapshot
from nova_snapshot_driver.snapshot.destination.standing import Standing
from nova_snapshot_driver.takings import cinder_snapshots
from nova_snapshot_driver.takings import shadow_volume

LOG = logging.getLogger(__name__)

#: The metadata of a shadow, beside those of ``takings.shadow_volume``: the
#: name of the disk in the domain.
DISK = 'nova_snapshot_disk'

GIB = 1 << 30

#: How often Cinder is asked how far it has come, in seconds.
INTERVAL = 0.2


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A volume as a snapshot needs it.

    :ivar disk: the name of the disk in the domain
    :ivar size: of the disk, in bytes
    :ivar least: the size of the volume, in GiB, that the image asks for
    :ivar name: of the server, for a person
    :ivar zone: None for any
    :ivar properties: of an image, by which Nova builds a server
    """

    disk: str
    size: int
    least: int
    name: str
    zone: str | None
    properties: Mapping[str, str]

    @property
    def gigabytes(self) -> int:
        return max(-(-self.size // GIB), self.least)


class Shadow:
    """The shadow of a disk of a server.

    :param connect: the way to Cinder, with a token that is valid now
    :param image: the id of the image that is made of the next snapshot
    :ivar server: its id
    """

    def __init__(
        self,
        settings: DestinationSettings,
        connect: Callable[[], CinderVolumes],
        server: str,
        image: str,
    ) -> None:
        self._settings = settings
        self._connect = connect
        self.server = server
        self._image = image

    def look(self, disk: str, distrust: str | None) -> Standing | None:
        """The shadow of a disk; the newest one, where there are several.

        :param distrust: why it has other content than its newest snapshot
        """
        connection = self._connect()
        found = connection.volumes_with(
            {shadow_volume.OF: self.server, DISK: disk}
        )
        usable = [each for each in found if each.status != cinder.DELETING]
        if not usable:
            return None
        volume = max(usable, key=lambda each: each.created_at)
        return Standing.of(
            volume, connection.snapshots_of(volume.id), distrust
        )

    # Room

    def require_room(self, volumes: int, gigabytes: int) -> None:
        """See that the quota of the project allows one more snapshot.

        :param volumes: that are made beside it
        :param gigabytes: that they, or the growth of one, and the snapshot
            take
        :raises CinderOverLimit: it does not
        """
        connection = self._connect()
        for what, needed, room in (
            ('snapshots', 1, connection.room_for_snapshots()),
            ('volumes', volumes, connection.room_for_volumes()),
            ('GiB', gigabytes, connection.room_in_gigabytes()),
        ):
            if room is not None and room < needed:
                raise exception.CinderOverLimit(
                    endpoint=connection.endpoint,
                    operation=f'a snapshot, which takes {needed} {what},',
                    reason=f'there is room for {max(room, 0)}',
                )

    # A volume to be written

    def make(self, wanted: Wanted, cancellation: Cancellation) -> Volume:
        """A new volume, which is blank."""
        connection = self._connect()
        volume = connection.create_volume(
            wanted.gigabytes,
            f'{wanted.name}: snapshots of {wanted.disk}'[: naming.LONGEST],
            f'The snapshots of the disk {wanted.disk} of the server '
            f'{self.server}. nova-snapshot-driver writes it; leave it '
            'detached.',
            self._settings.volume_type,
            wanted.zone,
            {
                shadow_volume.OF: self.server,
                shadow_volume.WRITER: self._image,
                DISK: wanted.disk,
            },
        )
        made = self._available(volume.id, cancellation)
        self._connect().make_bootable(volume.id, wanted.properties)
        return made

    def free(
        self, domain: str, volume: Volume, cancellation: Cancellation
    ) -> Volume:
        """See that a volume is attached to nobody.

        A snapshot that died may have left it attached to a host.

        :raises VolumeBusy: a server has it, or Cinder is not well
        """
        connection = self._connect()
        attachments = connection.attachments_of(volume.id)
        is_well = not volume.status.startswith('error')
        if any(each.server for each in attachments) or not is_well:
            raise exception.VolumeBusy(
                domain=domain, volume=volume.id, status=volume.status
            )
        connection.set_metadata(volume.id, {shadow_volume.WRITER: self._image})
        for attachment in attachments:
            LOG.warning(
                'Volume %s was left attached by a snapshot that died',
                volume.id,
            )
            connection.detach(volume.id, attachment)
        return self._available(volume.id, cancellation)

    def revert(
        self,
        domain: str,
        volume: Volume,
        snapshot: ShadowSnapshot,
        cancellation: Cancellation,
    ) -> Volume:
        """Take back what was written since the newest snapshot.

        :raises VolumeChanged: Cinder refuses it
        """
        LOG.info(
            'Volume %s was attached since its last snapshot, and is reverted '
            'to that',
            volume.id,
        )
        try:
            self._connect().revert(volume.id, snapshot.id)
        except exception.CinderUnavailable:
            raise
        except exception.CinderError as error:
            raise exception.VolumeChanged(
                domain=domain,
                volume=volume.id,
                reason=str(error).rstrip('.'),
            ) from error
        return self._available(volume.id, cancellation)

    def grow(
        self, volume: Volume, gigabytes: int, cancellation: Cancellation
    ) -> Volume:
        """See that a volume has a size, in GiB, at least."""
        if volume.size >= gigabytes:
            return volume
        self._connect().extend(volume.id, gigabytes)
        return self._available(volume.id, cancellation, gigabytes)

    def _available(
        self,
        volume: str,
        cancellation: Cancellation | None,
        gigabytes: int = 0,
    ) -> Volume:
        """Wait until a volume is available, and has a size at least.

        :raises VolumeTimeout: it is not in time, or will never be
        """
        connection = self._connect()
        timeout = self._settings.volume_timeout
        found: list[Volume] = []

        def is_available() -> bool:
            with contextlib.suppress(exception.CinderUnavailable):
                found[:] = [connection.volume(volume)]
            if found and found[0].status.startswith('error'):
                raise self._no_volume(volume, found)
            return bool(found) and (
                found[0].status == cinder.AVAILABLE
                and found[0].size >= gigabytes
            )

        if not wait.holds_within(
            is_available, timeout, interval=INTERVAL, cancellation=cancellation
        ):
            raise self._no_volume(volume, found)
        return found[0]

    def _no_volume(
        self, volume: str, found: list[Volume]
    ) -> exception.VolumeTimeout:
        return exception.VolumeTimeout(
            volume=volume,
            status=found[0].status if found else 'out of reach',
            wanted=cinder.AVAILABLE,
            seconds=self._settings.volume_timeout,
        )

    # An attachment

    @contextlib.contextmanager
    def attached(
        self, volume: Volume, connector: Mapping[str, Any]
    ) -> Iterator[Attachment]:
        """Have a volume attached to this host.

        :param connector: that describes the host to Cinder's driver
        :raises CinderError: it is not, or it stays so
        """
        attachment = self._connect().attach(volume.id, connector)
        try:
            # Cinder snapshots no volume whose attachment is not complete.
            self._connect().complete(volume.id, attachment)
            yield attachment
        except BaseException:
            # The error that is being raised matters more, and whoever hears
            # it gives the volume back.
            with contextlib.suppress(exception.SnapshotError):
                self._connect().detach(volume.id, attachment)
            raise
        self._connect().detach(volume.id, attachment)

    def key_of(self, volume: Volume) -> str | None:
        """The id of the key that a volume is encrypted with, if it is."""
        return self._connect().key_of(volume.id)

    # A snapshot

    def snapshot(
        self,
        volume: Volume,
        name: str,
        metadata: Mapping[str, str],
        cancellation: Cancellation,
    ) -> VolumeSnapshot:
        """Have a snapshot of the volume as it is.

        :raises VolumeSnapshotFailed: it has come to nothing
        :raises VolumeSnapshotTimeout: it is not available in time
        """
        connection = self._connect()
        timeout = self._settings.volume_timeout
        made = [
            connection.create_snapshot(
                volume.id,
                f'snapshot for {name}'[: naming.LONGEST],
                volume.description,
                {cinder_snapshots.MARK: self._image, **metadata},
            )
        ]

        def is_available() -> bool:
            with contextlib.suppress(exception.CinderUnavailable):
                made[:] = [connection.snapshot(made[0].id)]
            if made[0].is_hopeless:
                raise exception.VolumeSnapshotFailed(
                    volume=volume.id,
                    snapshot=made[0].id,
                    status=made[0].status,
                )
            return made[0].status == cinder.AVAILABLE

        if not wait.holds_within(
            is_available, timeout, interval=INTERVAL, cancellation=cancellation
        ):
            raise exception.VolumeSnapshotTimeout(
                left=1, total=1, seconds=timeout
            )
        return made[0]

    def settle(self, volume: Volume, snapshot: VolumeSnapshot) -> None:
        """Note that a snapshot is complete, and the volume as it is."""
        settled = self._available(volume.id, None)
        self._connect().set_snapshot_metadata(
            snapshot.id, {SETTLED: settled.updated_at or ''}
        )

    def retire(
        self, standing: Standing, is_gone: Callable[[str], bool]
    ) -> None:
        """Delete the snapshots whose images are gone.

        :param standing: before the newest snapshot
        :param is_gone: whether there is no image of an id any more
        """
        connection = self._connect()
        for snapshot in standing.complete:
            if is_gone(snapshot.image):
                LOG.info(
                    'Snapshot %s of volume %s is deleted, as its image %s was',
                    snapshot.id,
                    standing.volume.id,
                    snapshot.image,
                )
                connection.delete_snapshot(snapshot.id)

    def give_back(self, cause: BaseException) -> None:
        """Leave nothing of a snapshot that has failed.

        :raises VolumeLeftBehind: something can't be removed
        """
        shadow_volume.give_back(
            self._connect,
            self.server,
            self._image,
            self._settings.volume_timeout,
            # The answer to the last request may have been lost.
            cinder_snapshots.LATE_REQUEST
            if isinstance(cause, exception.CinderUnavailable)
            else 0,
            cause,
        )
