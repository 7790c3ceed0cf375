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
from nova_snapshot_driver.clients.cinder import VolumeSnapshot
from nova_snapshot_driver.clients.cinder_volumes import CinderVolumes
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.common.view import View
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
from nova_snapshot_driver.snapshot.destination.shadow import Shadow
from nova_snapshot_driver.snapshot.destination.shadow import Wanted
from nova_snapshot_driver.snapshot.destination.shadow_writer import OpenVolume
from nova_snapshot_driver.snapshot.destination.shadow_writer import (
    ShadowWriter,
)
from nova_snapshot_driver.snapshot.destination.standing import BITMAP
from nova_snapshot_driver.snapshot.destination.standing import SIZE
from nova_snapshot_driver.snapshot.destination.standing import TREE
from nova_snapshot_driver.snapshot.destination.standing import Standing
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
from nova_snapshot_driver.transfer.jobs.job import Update
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.jobs.job import Written

LOG = logging.getLogger(__name__)

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
    _written: OpenVolume
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
        self._standing = standing = self._shadow.look(target, self._distrust)
        self._bitmaps_before = self._bitmaps_of(standing)
        if standing is None:
            return None
        lost = (
            None
            if standing.doubt is None
            else Ground(Words.VOLUME_CHANGED, standing.doubt)
        )
        newest = standing.newest
        if newest is None:
            return Base(
                standing.volume.id, 0, None, has_hashes=True, lost=lost
            )
        return Base(
            newest.image,
            newest.size,
            None if newest.bitmap is None else Bitmap(target, newest.bitmap),
            has_hashes=True,
            lost=lost,
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
        writer = self._writer(guest, plan, planned)
        writer.require_room()
        self._is_begun = True
        with self._attached:
            try:
                self._written = self._attached.enter_context(writer.opened())
            except exception.VolumeChanged as error:
                # The next plan goes by it.
                self._distrust = error.fields['reason']
                raise
            yield

    def _writer(
        self, guest: Guest, plan: Plan, planned: PlannedDisk
    ) -> ShadowWriter:
        return ShadowWriter(
            self._settings,
            self._shadow,
            self._ledger,
            guest,
            self._tools,
            Wanted(
                disk=self._disk,
                size=_size_of(planned),
                least=self._found.get('min_disk') or 0,
                name=self._instance.name or guest.name,
                zone=self._instance.zone,
                properties=metadata.of_volume(self._found),
            ),
            None if _increment_of(plan).base is None else self._standing,
        )

    def job(self, view: View, _plan: Plan, directory: str) -> Update:
        return Update(
            view=view,
            base=self._written.base,
            volume=self._written.view,
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
            self._written.volume,
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
        self._shadow.settle(self._written.volume, snapshot)
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
                    self._written.view,
                    snapshot=volume_connection.snapshot_name(snapshot.id),
                ),
                leaves=self._leaves(),
                tree=written.tree,
                size=_size_of(planned),
                base_leaves=None
                if self._written.base is None
                else self._written.base.leaves,
                directory=directory,
            )
        )
        if verdict.damaged:
            raise exception.VolumeUnproven(
                snapshot=snapshot.id,
                volume=self._written.volume.id,
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
            volume=self._written.volume.id,
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
            'volume_size': self._written.volume.size,
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
