# SPDX-License-Identifier: Apache-2.0
"""A volume in Cinder that gets what has changed on a disk, and its snapshot.

The image in Glance maps the snapshot, and has no data of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.cinder import Volume
from nova_snapshot_driver.clients.cinder import VolumeSnapshot
from nova_snapshot_driver.clients.cinder_volumes import Attachment
from nova_snapshot_driver.clients.cinder_volumes import CinderVolumes
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.common.view import Volume as VolumeView
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot.capture.base import CaptureTools
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.snapshot.destination import volume_connection
from nova_snapshot_driver.snapshot.destination.base import Artefacts
from nova_snapshot_driver.snapshot.destination.base import Incremental
from nova_snapshot_driver.snapshot.destination.base import IncrementProof
from nova_snapshot_driver.snapshot.destination.base import Proof
from nova_snapshot_driver.snapshot.destination.base import Prove
from nova_snapshot_driver.snapshot.destination.mapped_image import MappedImage
from nova_snapshot_driver.snapshot.destination.settings import (
    DestinationSettings,
)
from nova_snapshot_driver.snapshot.destination.shadow import BITMAP
from nova_snapshot_driver.snapshot.destination.shadow import SIZE
from nova_snapshot_driver.snapshot.destination.shadow import TREE
from nova_snapshot_driver.snapshot.destination.shadow import Shadow
from nova_snapshot_driver.snapshot.destination.shadow import Standing
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.increment import Base
from nova_snapshot_driver.snapshot.plan.increment import Increment
from nova_snapshot_driver.snapshot.plan.increment import Keeping
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.instance import Target
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.state.ledger import Ledger
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.data_plane import Limits
from nova_snapshot_driver.transfer.formats import leaves
from nova_snapshot_driver.transfer.jobs.job import Hash
from nova_snapshot_driver.transfer.jobs.job import Update
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.jobs.job import Written
from nova_snapshot_driver.transfer.jobs.job_fields import Base as BaseFiles

LOG = logging.getLogger(__name__)

GIB = 1 << 30

#: The errors after which a snapshot that need not go to a volume goes to an
#: image instead.
REFUSALS = (
    exception.NotSupported,
    exception.VolumeRefused,
    exception.VolumeBusy,
    exception.VolumeTimeout,
    exception.VolumeUnwritable,
    exception.CinderError,
    exception.CinderAccessUnavailable,
)


class CinderVolume(MappedImage, Incremental):
    """The shadow volume of a disk, and an image that maps its next snapshot.

    :param image: its id
    :param instance: whose disk is snapshotted
    """

    KEEPING = Keeping('raw', 'as the volume')
    JOB = Update

    _standing: Standing | None
    _bitmaps_before: tuple[Bitmap, ...]
    _volume: Volume
    _view: VolumeView
    _base: BaseFiles | None
    _tools: CaptureTools

    def __init__(
        self,
        settings: DestinationSettings,
        context: Context,
        image: str,
        instance: Instance,
    ) -> None:
        super().__init__(settings, context, image)
        self._instance = instance
        self._is_optional = instance.target is Target.AUTO
        self.wish = None if self._is_optional else 'a volume as its target'
        self._ledger = Ledger(settings.state_directory)
        self._shadow = Shadow(
            settings,
            lambda: CinderVolumes(context.cinder_access()),
            instance.domain,
            image,
        )
        self._disk = ''
        self._distrust: str | None = None
        self._attached = contextlib.ExitStack()
        self._is_begun = False

    @property
    def artefacts(self) -> Artefacts:
        return dataclasses.replace(
            super().artefacts, server=self._instance.domain
        )

    @property
    def place(self) -> None:
        return None

    @property
    def record(self) -> str:
        return self._ledger.path(self._instance.domain, self._disk, self.image)

    @contextlib.contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        with super().discarded_on_failure(), self._given_back_on_failure():
            yield

    @contextlib.contextmanager
    def _given_back_on_failure(self) -> Iterator[None]:
        """Leave nothing in Cinder where the context ends in an error.

        :raises VolumeLeftBehind: something can't be removed
        """
        try:
            yield
        except BaseException as cause:
            # The context is entered twice: within the journal, and around it.
            if not self._is_begun:
                raise
            self._is_begun = False
            try:
                self._shadow.give_back(cause)
            except exception.VolumeLeftBehind as error:
                raise error from cause
            raise

    def _leaves_other_ways(self, cause: BaseException) -> bool:
        if self._is_optional:
            return isinstance(cause, REFUSALS)
        return super()._leaves_other_ways(cause)

    # The state of the volume

    def base(self, _guest: Guest, target: str) -> Base | None:
        self._disk = target
        self._standing = standing = self._shadow.look(target)
        self._bitmaps_before = self._bitmaps_of(standing)
        if standing is None:
            return None
        newest = standing.newest
        if newest is None:
            return Base(
                standing.volume.id,
                0,
                None,
                has_hashes=True,
                lost=Ground(
                    Words.VOLUME_CHANGED, 'it has no snapshot that is complete'
                ),
            )
        return Base(
            newest.image,
            newest.size,
            None if newest.bitmap is None else Bitmap(target, newest.bitmap),
            has_hashes=True,
            lost=self._mistrust(standing),
        )

    def _mistrust(self, standing: Standing) -> Ground | None:
        """Why the volume can't be had as it was at its newest snapshot."""
        if self._distrust is not None:
            return Ground(Words.VOLUME_CHANGED, self._distrust)
        if standing.is_settled or standing.may_be_reverted:
            return None
        return Ground(
            Words.VOLUME_CHANGED,
            'somebody has attached, extended or snapshotted it',
        )

    def new_bitmap(self) -> str:
        return _bitmap_of(self.image)

    @property
    def bitmaps_before(self) -> tuple[Bitmap, ...]:
        return self._bitmaps_before

    def _bitmaps_of(self, standing: Standing | None) -> tuple[Bitmap, ...]:
        """The bitmaps that earlier snapshots may have begun."""
        images = set(self._ledger.images(self._instance.domain, self._disk))
        if standing is not None:
            # The bitmap of the one before has stayed if its removal failed.
            images |= {each.image for each in standing.complete[-2:]}
        return tuple(
            Bitmap(self._disk, _bitmap_of(image)) for image in sorted(images)
        )

    # The volume that is written

    @contextlib.contextmanager
    def opened(
        self, guest: Guest, plan: Plan, tools: CaptureTools
    ) -> Iterator[None]:
        """
        :raises VolumeRefused: nobody here can write it
        :raises VolumeBusy: somebody else has it
        """
        self._tools = tools
        [planned] = plan.disks
        with self._attached:
            self._volume = self._prepared(guest, plan, planned)
            attachment = self._attached.enter_context(
                self._shadow.attached(
                    self._volume, volume_connection.connector()
                )
            )
            self._view = self._view_of(guest, attachment, _size_of(planned))
            self._base = self._base_files(guest, plan, planned)
            yield

    def _view_of(
        self, guest: Guest, attachment: Attachment, size: int
    ) -> VolumeView:
        try:
            return volume_connection.view_of(
                self._volume.id,
                attachment.connection,
                size,
                self._settings.ceph,
                guest.secret,
                lambda: self._tools.environment.volume_passphrase(
                    guest.name, self._cinder().key_of(self._volume.id)
                ),
            )
        except exception.VolumeOutOfReach as error:
            raise exception.VolumeRefused(
                domain=guest.name, reason=str(error).rstrip('.')
            ) from error

    def _prepared(
        self, guest: Guest, plan: Plan, planned: PlannedDisk
    ) -> Volume:
        """The volume, with the content of the base of the plan."""
        cancellation = self._tools.cancellation
        gigabytes = max(
            -(-_size_of(planned) // GIB), self._found.get('min_disk') or 0
        )
        standing = self._standing
        if standing is None or _increment_of(plan).base is None:
            self._shadow.require_room(1, self._counted(gigabytes, gigabytes))
            self._is_begun = True
            return self._shadow.make(
                self._disk,
                gigabytes,
                self._instance.name or guest.name,
                self._instance.zone,
                metadata.of_volume(self._found),
                cancellation,
            )
        gigabytes = max(gigabytes, standing.volume.size)
        self._shadow.require_room(
            0, self._counted(gigabytes - standing.volume.size, gigabytes)
        )
        self._is_begun = True
        volume = self._shadow.free(guest.name, standing.volume, cancellation)
        newest = standing.newest
        is_trusted = newest is not None and self._mistrust(standing) is None
        if newest is not None and is_trusted and not standing.is_settled:
            try:
                volume = self._shadow.revert(
                    guest.name, volume, newest, cancellation
                )
            except exception.VolumeChanged as error:
                self._distrust = error.fields['reason']
                raise
        return self._shadow.grow(volume, gigabytes, cancellation)

    def _counted(self, growth: int, snapshot: int) -> int:
        """The GiB that count against the quota."""
        if self._settings.snapshots_take_gigabytes:
            return growth + snapshot
        return growth

    def _base_files(
        self, guest: Guest, plan: Plan, planned: PlannedDisk
    ) -> BaseFiles | None:
        """The hashes of what the volume has before it is written.

        :returns: None where it reads as zeros
        :raises VolumeChanged: it has other content than the plan has it
        """
        standing = self._standing
        size = _size_of(planned)
        # A new volume reads as zeros, unless they would have to be decrypted.
        is_encrypted = self._view.passphrase is not None
        if _increment_of(plan).base is None or standing is None:
            return self._base_as_it_is(size) if is_encrypted else None
        newest = standing.newest
        if newest is None or self._mistrust(standing) is not None:
            return self._base_as_it_is(size)
        if is_encrypted and size > newest.size:
            raise self._changed(guest, 'it is encrypted, and has grown')
        path = self._ledger.path(
            self._instance.domain, self._disk, newest.image
        )
        with contextlib.suppress(exception.LeavesDamaged):
            with leaves.opened(path) as found:
                found.check(newest.size, newest.tree)
            return BaseFiles(newest.size, path, newest.tree)
        path = self._tools.workspace.file('base')
        view = dataclasses.replace(
            self._view,
            size=newest.size,
            snapshot=volume_connection.snapshot_name(newest.id),
        )
        if self._hash(view, path) != newest.tree:
            raise self._changed(
                guest, f'its snapshot {newest.id} has other content'
            )
        return BaseFiles(newest.size, path, newest.tree)

    def _base_as_it_is(self, size: int) -> BaseFiles:
        """The hashes of the volume, whatever is in it."""
        path = self._tools.workspace.file('base')
        return BaseFiles(size, path, self._hash(self._view, path))

    def _changed(self, guest: Guest, reason: str) -> exception.VolumeChanged:
        """The error of a base that is not as planned; the next plan knows."""
        self._distrust = reason
        return exception.VolumeChanged(
            domain=guest.name, volume=self._volume.id, reason=reason
        )

    def _hash(self, view: VolumeView, path: str) -> str:
        return data_plane.run(
            Hash(view, path, self._tools.workspace.path),
            Limits.of(self._settings.transfer, Hash),
            self._tools.progress,
            self._tools.cancellation,
        )

    def job(self, view: View, _plan: Plan, directory: str) -> Update:
        return Update(
            view=view,
            base=self._base,
            volume=self._view,
            leaves=self._leaves(),
            directory=directory,
        )

    # The snapshot of it

    def complete(
        self,
        _guest: Guest,
        plan: Plan,
        written: Written,
        properties: dict[str, Any],
        prove: Prove,
        directory: str,
    ) -> Proof:
        """
        :raises VolumeUnproven: the snapshot has something else
        """
        [planned] = plan.disks
        increment = _increment_of(plan)
        new = increment.tracking.new
        snapshot = self._shadow.snapshot(
            self._volume,
            self.name(),
            {
                SIZE: str(_size_of(planned)),
                TREE: written.tree,
                BITMAP: '' if new is None else new.name,
            },
            self._tools.cancellation,
        )
        self._see_is_proven(snapshot, planned, written, prove, directory)
        self._attached.close()
        self._shadow.settle(self._volume, snapshot)
        proof = self._proof(increment, written, snapshot)
        dropped = self._show(
            [self._mapping(planned, snapshot)],
            {
                **properties,
                **metadata.of_increment(proof),
                'root_device_name': f'/dev/{self._disk}',
            },
        )
        # The image is complete, and is to stay whatever happens from here on.
        self._is_begun = False
        self._clean_up()
        return Proof(written.size, None, dropped, proof)

    def _see_is_proven(
        self,
        snapshot: VolumeSnapshot,
        planned: PlannedDisk,
        written: Written,
        prove: Prove,
        directory: str,
    ) -> None:
        verdict = prove(
            Verify(
                view=dataclasses.replace(
                    self._view,
                    snapshot=volume_connection.snapshot_name(snapshot.id),
                ),
                leaves=self._leaves(),
                tree=written.tree,
                size=_size_of(planned),
                base_leaves=None if self._base is None else self._base.leaves,
                directory=directory,
            )
        )
        if verdict.damaged:
            raise exception.VolumeUnproven(
                snapshot=snapshot.id,
                volume=self._volume.id,
                count=verdict.damaged,
                offset=verdict.offsets[0] if verdict.offsets else 'unknown',
            )

    def _proof(
        self, increment: Increment, written: Written, snapshot: VolumeSnapshot
    ) -> IncrementProof:
        newest = None if self._standing is None else self._standing.newest
        has_parent = increment.base is not None and newest is not None
        return IncrementProof(
            name=self.image,
            parent=newest.image if newest is not None and has_parent else None,
            way=increment.way.value,
            reason=str(increment.reason),
            public_reason=increment.reason.public,
            changed=written.changed,
            written=written.size,
            tree=written.tree,
            volume=self._volume.id,
            snapshot=snapshot.id,
        )

    def _mapping(
        self, planned: PlannedDisk, snapshot: VolumeSnapshot
    ) -> dict[str, Any]:
        """The root disk of a server that is made from the image."""
        return {
            'source_type': 'snapshot',
            'destination_type': 'volume',
            'snapshot_id': snapshot.id,
            'volume_size': self._volume.size,
            'boot_index': 0,
            'device_name': f'/dev/{self._disk}',
            'device_type': 'disk',
            'disk_bus': planned.disk.bus,
            'delete_on_termination': True,
        }

    def _clean_up(self) -> None:
        """Keep the hashes, and delete snapshots that no image maps."""
        try:
            self._ledger.publish(
                *(self._instance.domain, self._disk, self.image),
                self._leaves(),
            )
            if self._standing is not None:
                self._shadow.retire(self._standing, self._is_gone)
        except exception.SnapshotError as error:
            LOG.warning('After the snapshot: %s', error)

    def _is_gone(self, image: str) -> bool:
        try:
            self.glance().get(image)
        except exception.ImageNotFound:
            return True
        return False

    def _leaves(self) -> str:
        """The path of the hashes of what is written."""
        return self._tools.workspace.file('leaves')

    def _cinder(self) -> CinderVolumes:
        return CinderVolumes(self._context.cinder_access())


def _bitmap_of(image: str) -> str:
    """The bitmap that has begun with the snapshot of an image."""
    return f'{naming.VOLUME_BITMAP}{image}'


def _increment_of(plan: Plan) -> Increment:
    assert plan.increment is not None  # noqa: S101 (for mypy)
    return plan.increment


def _size_of(planned: PlannedDisk) -> int:
    """The size of the disk, in bytes."""
    assert planned.size is not None  # noqa: S101 (for mypy)
    return planned.size
