# SPDX-License-Identifier: Apache-2.0
"""Volumes of Cinder that a host writes, though no server has them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.cinder import Cinder
from nova_snapshot_driver.clients.cinder import Volume
from nova_snapshot_driver.clients.cinder import volume_of

#: The statuses of a volume, beside those of a snapshot.
IN_USE = 'in-use'
ATTACHING = 'attaching'


@dataclasses.dataclass(frozen=True)
class Attachment:
    """An attachment of a volume.

    :ivar server: None for one to a host alone
    :ivar connection: how a host reaches the volume, in the words of Cinder's
        driver; empty where Cinder was not asked
    """

    id: str
    server: str | None
    connection: Mapping[str, Any]


class CinderVolumes(Cinder):
    """Cinder's API with volumes that are attached to a host.

    Version 3.54 is of the release Stein: an attachment has a mode.
    """

    MICROVERSION = '3.54'

    def volumes_with(
        self, metadata: Mapping[str, str], everywhere: bool = False
    ) -> list[Volume]:
        """The volumes of the project that have some metadata.

        :param everywhere: of all projects, for an administrator
        """
        options = {'metadata': dict(metadata), 'all_tenants': int(everywhere)}
        with self.calling('list the volumes'), self.listing():
            found = [
                volume_of(each)
                for each in self._client.volumes.list(search_opts=options)
            ]
        # An operator may have taken the filter away.
        return [
            volume
            for volume in found
            if metadata.items() <= volume.metadata.items()
        ]

    def room_for_volumes(self) -> int | None:
        """How many more volumes the quota of the project allows.

        :returns: None where there is no limit
        """
        with self.calling('read the limits'):
            return self._room('maxTotalVolumes', 'totalVolumesUsed')

    def room_in_gigabytes(self) -> int | None:
        """How many more GiB the quota of the project allows.

        :returns: None where there is no limit
        """
        with self.calling('read the limits'):
            return self._room('maxTotalVolumeGigabytes', 'totalGigabytesUsed')

    def create_volume(
        self,
        size: int,
        name: str,
        description: str,
        volume_type: str | None,
        zone: str | None,
        metadata: Mapping[str, str],
    ) -> Volume:
        """
        :param size: in GiB
        :param volume_type: None for Cinder's default
        :param zone: None for any
        """
        with self.calling(f'create a volume of {size} GiB'):
            return volume_of(
                self._client.volumes.create(
                    size,
                    name=name,
                    description=description,
                    volume_type=volume_type,
                    availability_zone=zone,
                    metadata=dict(metadata),
                )
            )

    def delete_volume(self, volume: str) -> None:
        """Ask Cinder to delete a volume; the deletion takes a while."""
        with (
            contextlib.suppress(exception.VolumeNotFound),
            self.calling('delete the volume', volume),
        ):
            self._client.volumes.delete(volume)

    def make_bootable(
        self, volume: str, image_properties: Mapping[str, str]
    ) -> None:
        """Have servers boot from volumes of its snapshots, as from an image.

        :param image_properties: that Nova goes by then
        """
        with self.calling('make bootable the volume', volume):
            self._client.volumes.set_bootable(volume, True)
            if image_properties:
                self._client.volumes.set_image_metadata(
                    volume, dict(image_properties)
                )

    def set_metadata(self, volume: str, metadata: Mapping[str, str]) -> None:
        with self.calling('describe the volume', volume):
            self._client.volumes.set_metadata(volume, dict(metadata))

    def extend(self, volume: str, size: int) -> None:
        """Ask Cinder to have a volume grow.

        :param size: in GiB
        """
        with self.calling(f'grow to {size} GiB the volume', volume):
            self._client.volumes.extend(volume, size)

    def revert(self, volume: str, snapshot: str) -> None:
        """Ask Cinder to take a volume back to its newest snapshot."""
        with self.calling('revert to its snapshot the volume', volume):
            self._client.volumes.revert_to_snapshot(volume, snapshot)

    def set_snapshot_metadata(
        self, snapshot: str, metadata: Mapping[str, str]
    ) -> None:
        with self.calling('describe the snapshot', snapshot):
            self._client.volume_snapshots.set_metadata(
                snapshot, dict(metadata)
            )

    # Attachments

    def attach(self, volume: str, connector: Mapping[str, Any]) -> Attachment:
        """Attach a volume to a host, for writing.

        :param connector: that describes the host to Cinder's driver
        """
        with self.calling('attach to this host the volume', volume):
            made = self._client.attachments.create(
                volume, dict(connector), mode='rw'
            )
            return Attachment(made['id'], None, made['connection_info'])

    def complete(self, volume: str, attachment: Attachment) -> None:
        """Say that the host has the volume: Cinder snapshots it then."""
        with self.calling('complete the attachment of the volume', volume):
            self._client.attachments.complete(attachment.id)

    def attachments_of(self, volume: str) -> list[Attachment]:
        with (
            self.calling('list the attachments of the volume', volume),
            self.listing(),
        ):
            found = self._client.attachments.list(
                search_opts={'volume_id': volume, 'all_tenants': 1}
            )
            return [
                Attachment(each.id, each.instance, {})
                for each in found
                if each.volume_id == volume
            ]

    def detach(self, volume: str, attachment: Attachment) -> None:
        """Delete an attachment; a missing one is no error."""
        with (
            contextlib.suppress(exception.VolumeNotFound),
            self.calling('detach from this host the volume', volume),
        ):
            self._client.attachments.delete(attachment.id)

    def reach(
        self, volume: str, connector: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """How this host reaches a volume, in the words of Cinder's driver.

        The volume is not attached, whatever it is attached to otherwise: its
        status and the time of its last change stay.
        """
        with self.calling('read how to reach the volume', volume):
            found: Mapping[str, Any] = (
                self._client.volumes.initialize_connection(
                    volume, dict(connector)
                )
            )
            return found

    def let_go(self, volume: str, connector: Mapping[str, Any]) -> None:
        """Say that this host does not reach a volume any more."""
        with self.calling('let go of the volume', volume):
            self._client.volumes.terminate_connection(volume, dict(connector))

    def key_of(self, volume: str) -> str | None:
        """The id of the key that a volume is encrypted with, if it is."""
        with self.calling('read the encryption of the volume', volume):
            found = self._client.volumes.get_encryption_metadata(volume)
            key: str | None = found.get('encryption_key_id')
            return key
