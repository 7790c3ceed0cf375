# SPDX-License-Identifier: Apache-2.0
"""The shadow of a disk while it is written."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.cinder import Volume
from nova_snapshot_driver.clients.cinder_volumes import Attachment
from nova_snapshot_driver.common.view import Volume as VolumeView
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot.capture.base import CaptureTools
from nova_snapshot_driver.snapshot.destination import volume_connection
from nova_snapshot_driver.snapshot.destination.settings import (
    DestinationSettings,
)
from nova_snapshot_driver.snapshot.destination.shadow import Shadow
from nova_snapshot_driver.snapshot.destination.shadow import Wanted
from nova_snapshot_driver.snapshot.destination.standing import Standing
from nova_snapshot_driver.state.ledger import Ledger
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.data_plane import Limits
from nova_snapshot_driver.transfer.formats import leaves
from nova_snapshot_driver.transfer.jobs.job import Hash
from nova_snapshot_driver.transfer.jobs.job_fields import Base


@dataclasses.dataclass(frozen=True)
class OpenVolume:
    """A volume that is attached to this host.

    :ivar view: for QEMU's tools
    :ivar base: the hashes of its content before it is written; None where it
        reads as zeros
    """

    volume: Volume
    view: VolumeView
    base: Base | None


@dataclasses.dataclass(frozen=True)
class ShadowWriter:
    """Opens the shadow of a disk for one snapshot.

    :ivar wanted: the volume that the snapshot needs
    :ivar standing: what it builds on; None for a new volume
    """

    settings: DestinationSettings
    shadow: Shadow
    ledger: Ledger
    guest: Guest
    tools: CaptureTools
    wanted: Wanted
    standing: Standing | None

    @property
    def gigabytes(self) -> int:
        """The size that the volume is to have, in GiB."""
        if self.standing is None:
            return self.wanted.gigabytes
        return max(self.wanted.gigabytes, self.standing.volume.size)

    def require_room(self) -> None:
        """See that the quota of the project allows the snapshot.

        :raises CinderOverLimit: it does not
        """
        before = 0 if self.standing is None else self.standing.volume.size
        counted = self.gigabytes - before
        if self.settings.snapshots_take_gigabytes:
            counted += self.gigabytes
        self.shadow.require_room(int(self.standing is None), counted)

    @contextlib.contextmanager
    def opened(self) -> Iterator[OpenVolume]:
        """Have the volume attached, with the content that the plan builds on.

        :raises VolumeRefused: nobody here can write it
        :raises VolumeBusy: somebody else has it
        :raises VolumeChanged: it has other content than the plan has it
        """
        volume = self._prepared()
        with self.shadow.attached(
            volume, volume_connection.connector()
        ) as attachment:
            view = self._view(volume, attachment)
            yield OpenVolume(volume, view, self._base(volume, view))

    def _prepared(self) -> Volume:
        """The volume, with its size, and the content of its snapshot."""
        cancellation = self.tools.cancellation
        standing = self.standing
        if standing is None:
            return self.shadow.make(self.wanted, cancellation)
        volume = self.shadow.free(
            self.guest.name, standing.volume, cancellation
        )
        newest = standing.newest
        is_trusted = newest is not None and standing.doubt is None
        if newest is not None and is_trusted and not standing.is_settled:
            volume = self.shadow.revert(
                self.guest.name, volume, newest, cancellation
            )
        return self.shadow.grow(volume, self.gigabytes, cancellation)

    def _view(self, volume: Volume, attachment: Attachment) -> VolumeView:
        try:
            return volume_connection.view_of(
                volume.id,
                attachment.connection,
                self.wanted.size,
                self.settings.ceph,
                self.guest.secret,
                lambda: self.tools.environment.volume_passphrase(
                    self.guest.name, self.shadow.key_of(volume)
                ),
            )
        except exception.VolumeOutOfReach as error:
            raise exception.VolumeRefused(
                domain=self.guest.name, reason=str(error).rstrip('.')
            ) from error

    # The content before

    def _base(self, volume: Volume, view: VolumeView) -> Base | None:
        """The hashes of what the volume has before it is written."""
        standing = self.standing
        # A new volume reads as zeros, unless they would have to be decrypted.
        is_encrypted = view.passphrase is not None
        if standing is None:
            return self._as_it_is(view) if is_encrypted else None
        newest = standing.newest
        if newest is None or standing.doubt is not None:
            return self._as_it_is(view)
        if is_encrypted and self.wanted.size > newest.size:
            raise self._changed(volume, 'it is encrypted, and has grown')
        path = self.ledger.path(
            self.shadow.server, self.wanted.disk, newest.image
        )
        with contextlib.suppress(exception.LeavesDamaged):
            with leaves.opened(path) as found:
                found.check(newest.size, newest.tree)
            return Base(newest.size, path, newest.tree)
        path = self.tools.workspace.file('base')
        snapshot = dataclasses.replace(
            view,
            size=newest.size,
            snapshot=volume_connection.snapshot_name(newest.id),
        )
        if self._hash(snapshot, path) != newest.tree:
            raise self._changed(
                volume, f'its snapshot {newest.id} has other content'
            )
        return Base(newest.size, path, newest.tree)

    def _as_it_is(self, view: VolumeView) -> Base:
        """The hashes of the volume, whatever is in it."""
        path = self.tools.workspace.file('base')
        return Base(self.wanted.size, path, self._hash(view, path))

    def _changed(self, volume: Volume, reason: str) -> exception.VolumeChanged:
        return exception.VolumeChanged(
            domain=self.guest.name, volume=volume.id, reason=reason
        )

    def _hash(self, view: VolumeView, path: str) -> str:
        return data_plane.run(
            Hash(view, path, self.tools.workspace.path),
            Limits.of(self.settings.transfer, Hash),
            self.tools.progress,
            self.tools.cancellation,
        )
