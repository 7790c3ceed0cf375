# SPDX-License-Identifier: Apache-2.0
"""The snapshot of an instance, from the request to the proven image."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging

from nova_snapshot_driver.chain.verify import OF_A_SNAPSHOT
from nova_snapshot_driver.chain.worker import ChainWorker
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.codec import FilePath
from nova_snapshot_driver.common.events import Event
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.recovery.healer import Healer
from nova_snapshot_driver.snapshot.capture.environment import Environment
from nova_snapshot_driver.snapshot.destination import cinder_volume
from nova_snapshot_driver.snapshot.destination.base import Artefacts
from nova_snapshot_driver.snapshot.destination.cinder_volume import (
    CinderVolume,
)
from nova_snapshot_driver.snapshot.destination.file_chain import FileChain
from nova_snapshot_driver.snapshot.destination.glance_image import GlanceImage
from nova_snapshot_driver.snapshot.destination.output_file import OutputFile
from nova_snapshot_driver.snapshot.destination.volume_image import (
    VolumeBackedImage,
)
from nova_snapshot_driver.snapshot.disk import DiskSnapshot
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.instance import Target
from nova_snapshot_driver.snapshot.request import Request
from nova_snapshot_driver.snapshot.request import TaskStates
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.snapshot.session import Session
from nova_snapshot_driver.snapshot.settings import Settings
from nova_snapshot_driver.snapshot.volumes import VolumesSnapshot
from nova_snapshot_driver.state import watchdog
from nova_snapshot_driver.state.cancel_request import CancelRequest
from nova_snapshot_driver.state.chain import Chain
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings.cinder_snapshots import CinderSnapshots
from nova_snapshot_driver.takings.draft import Draft
from nova_snapshot_driver.takings.glance_image import UnfinishedImage
from nova_snapshot_driver.takings.shadow_volume import ShadowVolume
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.temporary_files import TemporaryFiles

LOG = logging.getLogger(__name__)


class SnapshotDriver:
    """Takes snapshots of the guests of one host."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        environment: Environment | None = None,
    ) -> None:
        self._settings = settings
        self._environment = environment or Environment()
        self._journal = Journal(settings.undo.state_directory)
        self._healer = Healer(settings.undo, host, self._environment)

    def snapshot(
        self,
        context: Context,
        instance: Instance,
        image_id: str,
        update_task_state: Callable[..., Any],
        progress: Progress = silent,
        cancellation: Cancellation | None = None,
    ) -> Snapshot:
        """Snapshot an instance into an image.

        The image is that of its root disk, or the mapping of a snapshot in
        Cinder with the content of that disk; or, where that is a volume, a
        mapping of the snapshots of all its volumes. Source:
        ``nova.virt.driver.ComputeDriver.snapshot``.

        :param image_id: an image that exists in Glance and is queued; it is
            active and proven afterwards, or deleted where this fails. A
            snapshot that is not supported touches neither it nor the guest
        :param update_task_state: called with ``task_state`` and, from the
            second time on, ``expected_state``
        :raises NotSupported: this driver has no method for it
        :raises SnapshotError: it failed, and the guest is as it was
        """
        request = Request(
            instance,
            self._image(context, instance, image_id),
            TaskStates(update_task_state),
            progress,
            cancellation or Cancellation(),
            context,
        )
        if instance.block_devices is None and instance.target is Target.AUTO:
            try:
                return self.take(request)
            except cinder_volume.REFUSALS as refusal:
                events.log_event(
                    LOG.warning,
                    Event.REFUSED,
                    f'The snapshot goes to an image instead: {refusal}',
                    code=refusal.code,
                )
            request = dataclasses.replace(
                request,
                destination=GlanceImage(
                    self._settings.destination, context, image_id
                ),
            )
        return self.take(request)

    def snapshot_to_file(
        self,
        instance: Instance,
        path: str,
        progress: Progress = silent,
        cancellation: Cancellation | None = None,
    ) -> Snapshot:
        """Snapshot the root disk of an instance into a file of this host.

        :param path: a file that does not exist
        :raises SnapshotError: it failed, and the guest is as it was
        """
        return self.take(
            Request(
                instance,
                OutputFile(instance.domain, path),
                TaskStates(lambda **_state: None),
                progress,
                cancellation or Cancellation(),
            )
        )

    def snapshot_to_chain(
        self,
        instance: Instance,
        directory: str,
        name: str | None = None,
        progress: Progress = silent,
        cancellation: Cancellation | None = None,
    ) -> Snapshot:
        """Snapshot the root disk of an instance into a chain of files.

        The first one is full, and the others have what has changed.

        :param directory: of the chain; made if it is missing
        :param name: of the snapshot in the chain; None for one after the time
        :raises SnapshotError: it failed, and the guest is as it was
        """
        cancellation = cancellation or Cancellation()
        worker = ChainWorker(self._settings.transfer, progress, cancellation)
        with (
            Chain.open_or_create(directory) as chain,
            chain.locked(),
            _leaves_of_newest(chain, worker) as leaves,
        ):
            return self.take(
                Request(
                    instance,
                    FileChain(chain, name, leaves),
                    TaskStates(lambda **_state: None),
                    progress,
                    cancellation,
                )
            )

    def take(self, request: Request) -> Snapshot:
        """Take a snapshot as a request has it.

        :raises NotSupported: this driver has no method for it
        :raises RequestNotSupported: nor has Nova's own driver
        :raises SnapshotError: it failed, and the guest is as it was
        """
        destination = request.destination
        events.log_event(
            LOG.info,
            Event.BEGUN,
            f'Snapshot of domain {request.instance.domain} begins',
            domain=request.instance.domain,
            image=','.join(destination.artefacts.images) or None,
        )
        if self._settings.deadline:
            request.cancellation.limit(self._settings.deadline)
        with (
            destination.discarded_on_failure(),
            request.refused_as_asked(),
            self._healer.healed_guest(
                request.instance.domain, request.context
            ) as guest,
        ):
            destination.check()
            session = self._session(guest, request)
            taking = _snapshot_of(session)
            # Refuse what is not supported before anything is touched.
            taking.check()
            request.cancellation.watch(
                CancelRequest(
                    self._settings.undo.state_directory, guest.uuid
                ).consume
            )
            with (
                self._journal.kept(session.unfinished) as keeping,
                # While the journal knows of it.
                destination.discarded_on_failure(),
            ):
                with guest.heeding(request.cancellation):
                    snapshot = taking.take()
                if snapshot.unfinished:
                    keeping.afterwards = self._unfinished(guest)
        if snapshot.unfinished:
            self._leave_to_watchdog(guest, snapshot)
        events.log_event(
            LOG.info,
            Event.TAKEN,
            f'Snapshot of domain {guest.name} is taken: {snapshot}',
            guest.uuid,
            method=snapshot.method,
            bytes=snapshot.size,
            seconds=snapshot.total_seconds,
            stall_seconds=snapshot.stall_seconds,
        )
        return snapshot

    def _image(
        self, context: Context, instance: Instance, image_id: str
    ) -> GlanceImage | VolumeBackedImage | CinderVolume:
        settings, devices = self._settings.destination, instance.block_devices
        if devices is not None:
            return VolumeBackedImage(settings, context, image_id, devices)
        if instance.target is Target.IMAGE:
            return GlanceImage(settings, context, image_id)
        return CinderVolume(settings, context, image_id, instance)

    def _unfinished(self, guest: Guest) -> Entry | None:
        """The journal entry of a guest whose image is complete."""
        entry = self._journal.recall(guest.uuid)
        return entry and entry.of_complete_image()

    def _leave_to_watchdog(self, guest: Guest, snapshot: Snapshot) -> None:
        events.log_event(
            LOG.warning,
            Event.UNFINISHED,
            f'Domain {guest.name}: {" ".join(snapshot.notes)}',
            guest.uuid,
        )
        watchdog.rescue(self._settings.undo, guest)

    def _session(self, guest: Guest, request: Request) -> Session:
        files = map(FilePath, self._settings.undo.directories)
        unfinished = Entry(
            guest.name,
            guest.uuid,
            (
                *map(TemporaryFiles, files),
                *_made_for(request.destination.artefacts),
            ),
        )
        return Session(
            self._settings,
            self._journal,
            self._environment,
            guest,
            request,
            unfinished,
        )


@contextlib.contextmanager
def _leaves_of_newest(
    chain: Chain, worker: ChainWorker
) -> Iterator[str | None]:
    """The path of the leaves of the newest snapshot, hashed anew if missing.

    :returns: None where there is no such snapshot, or none that is right
    """
    newest = chain.newest()
    with contextlib.ExitStack() as stack:
        leaves = None
        if newest is not None:
            try:
                leaves = stack.enter_context(worker.leaves(chain, newest))
            except OF_A_SNAPSHOT as error:
                LOG.warning('The next snapshot is full: %s', error)
        yield leaves


def _made_for(artefacts: Artefacts) -> Iterator[Taking]:
    """The takings to undo if the snapshot fails to become an image."""
    for draft in artefacts.drafts:
        yield Draft(FilePath(draft))
    for image in artefacts.images:
        if artefacts.volumes:
            yield CinderSnapshots(image, artefacts.volumes, artefacts.project)
        if artefacts.server is not None:
            yield ShadowVolume(image, artefacts.server, artefacts.project)
        yield UnfinishedImage(image, artefacts.project)


def _snapshot_of(session: Session) -> DiskSnapshot | VolumesSnapshot:
    destination = session.request.destination
    if isinstance(destination, VolumeBackedImage):
        return VolumesSnapshot(session, destination)
    return DiskSnapshot(session)
