# SPDX-License-Identifier: Apache-2.0
"""The snapshot of an instance, from the request to the proven image."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import events
from nova_snapshot_driver import exception
from nova_snapshot_driver import metadata
from nova_snapshot_driver import recovery
from nova_snapshot_driver import space
from nova_snapshot_driver import status
from nova_snapshot_driver import undo
from nova_snapshot_driver.cancel_request import CancelRequest
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.capture import Capture
from nova_snapshot_driver.capture import Means
from nova_snapshot_driver.capture import backup
from nova_snapshot_driver.capture import cold
from nova_snapshot_driver.capture import direct
from nova_snapshot_driver.capture import mirror
from nova_snapshot_driver.context import Context
from nova_snapshot_driver.delivery import Adoption
from nova_snapshot_driver.delivery import Conversion
from nova_snapshot_driver.delivery import Delivery
from nova_snapshot_driver.delivery import Stream
from nova_snapshot_driver.events import Event
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.host import Host
from nova_snapshot_driver.image import Glance
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.journal import Journal
from nova_snapshot_driver.plan import AnyPlan
from nova_snapshot_driver.plan import Obstacles
from nova_snapshot_driver.plan import Path
from nova_snapshot_driver.plan import Pause
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.plan import VolumesPlan
from nova_snapshot_driver.plan import make_plan
from nova_snapshot_driver.plan import make_volumes_plan
from nova_snapshot_driver.progress import Progress
from nova_snapshot_driver.progress import silent
from nova_snapshot_driver.quiesce import Quiesce
from nova_snapshot_driver.rbd import Ceph
from nova_snapshot_driver.rbd import Clone
from nova_snapshot_driver.request import Request
from nova_snapshot_driver.request import TaskStates
from nova_snapshot_driver.result import Snapshot
from nova_snapshot_driver.result import Stopwatch
from nova_snapshot_driver.status import Status
from nova_snapshot_driver.stillness import Stillness
from nova_snapshot_driver.surroundings import Surroundings
from nova_snapshot_driver.target import GlanceImage
from nova_snapshot_driver.target import OutputFile
from nova_snapshot_driver.target import Target
from nova_snapshot_driver.transfer import libnbd
from nova_snapshot_driver.volumes import ImageOfVolumes
from nova_snapshot_driver.workspace import Workspace
from nova_snapshot_driver.workspace import require_space

LOG = logging.getLogger(__name__)

CAPTURES: dict[Path, Capture] = {
    Path.DIRECT: direct.view,
    Path.BACKUP: backup.view,
    Path.MIRROR: mirror.view,
    Path.COLD: cold.view,
}


class SnapshotDriver:
    """Takes snapshots of the guests of one host.

    :param conf: with the options of ``nova_snapshot_driver.conf`` and Nova's
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        host: Host,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._conf = conf
        self._host = host
        self._surroundings = surroundings or Surroundings()
        self._journal = Journal(conf.snapshot.state_directory)

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

        That of its root disk or, where that is a volume, a mapping of the
        snapshots of all its volumes.
        Source: ``nova.virt.driver.ComputeDriver.snapshot``.

        :param image_id: an image that exists in Glance and is queued; it is
            active and proven afterwards, or deleted where this fails. A
            snapshot that is not supported touches neither it nor the guest
        :param update_task_state: called with ``task_state`` and, from the
            second time on, ``expected_state``
        :raises NotSupported: this driver has no way to it
        :raises SnapshotError: it failed, and the guest is as it was
        """
        return self._snapshot(
            Request(
                instance,
                self._image(context, instance, image_id),
                TaskStates(update_task_state),
                progress,
                cancellation or Cancellation(),
            )
        )

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
        return self._snapshot(
            Request(
                instance,
                OutputFile(self._conf, path),
                TaskStates(lambda **_state: None),
                progress,
                cancellation or Cancellation(),
            )
        )

    def _image(
        self, context: Context, instance: Instance, image_id: str
    ) -> GlanceImage:
        devices = instance.block_devices
        if devices is None:
            return GlanceImage(self._conf, context, image_id)
        return ImageOfVolumes(self._conf, context, image_id, devices)

    def heal(self, context: Context) -> None:
        """Give back, on all domains, what snapshots that died had taken.

        A domain that can't be healed is logged, and does not stop the others.

        :param context: in which their images can be deleted
        """
        for entry in self._journal.entries():
            try:
                self._heal(entry, context)
            except exception.DomainBusy:
                LOG.info(
                    'Domain %s is being snapshotted', entry.definition.name
                )
            except exception.SnapshotError as error:
                events.tell(
                    LOG.error,
                    Event.NOT_HEALED,
                    error,
                    entry.definition.uuid,
                    code=error.code,
                )

    @contextlib.contextmanager
    def given_back(
        self, domain: str, context: Context, image: str
    ) -> Iterator[None]:
        """The snapshot of somebody else, after whom it is cleaned up.

        :param domain: of QEMU, by name or UUID; running, paused, suspended or
            shut off, as it is afterwards too
        :param image: its id in Glance; what it has inherited from an image of
            ours about the making of that is taken from it
        """
        with self._guest_of(domain, context) as guest:
            self._remove_our_words(image, context)
            active = guest.is_active()
            entry = Entry(
                guest.definition(),
                persistent=guest.persistent(),
                power_state=guest.power_state() if active else None,
                devices=guest.describe().host_devices if active else (),
            )
            with self._journal.kept(entry):
                try:
                    yield
                finally:
                    undo.surely(
                        guest.name,
                        'give the guest back',
                        lambda: self._give_back(guest),
                        'The next snapshot of it tries again.',
                    )

    def guest(self, domain: str) -> Guest:
        """The guest of a domain, by name or UUID.

        :raises DomainNotFound: there is none
        """
        return recovery.find_guest(self._host, self._journal, domain)

    def _remove_our_words(self, image: str, context: Context) -> None:
        try:
            Glance(context.glance_access()).remove_properties(
                image, metadata.OURS
            )
        except exception.SnapshotError as error:
            # Whoever takes the snapshot will meet it too, if it stays.
            LOG.warning('%s', error)

    def disown(self, uuid: str) -> None:
        """Give nothing back to a domain any more: its owner destroys it.

        Images of its snapshots that died are still deleted.
        """
        entry = self._journal.recall(uuid)
        if entry is not None:
            self._journal.remember(entry.given_back())

    def _is_disowned(self, guest: Guest) -> bool:
        try:
            entry = self._journal.recall(guest.uuid)
        except exception.SnapshotError:
            return False
        return entry is not None and entry.is_given_back

    def _give_back(self, guest: Guest) -> None:
        entry = self._journal.recall(guest.uuid)
        if entry is not None and not entry.is_given_back:
            recovery.give_back(guest, entry, self._conf)

    def _heal(self, entry: Entry, context: Context) -> None:
        uuid = entry.definition.uuid
        try:
            self.guest(uuid)
        except exception.DomainNotFound:
            recovery.forget_lost(entry, self._journal, self._conf, context)
            return
        with self._guest_of(uuid, context):
            pass

    def _snapshot(self, request: Request) -> Snapshot:
        target = request.target
        events.tell(
            LOG.info,
            Event.BEGUN,
            f'Snapshot of domain {request.instance.domain} begins',
            domain=request.instance.domain,
            image=target.image,
        )
        if self._conf.snapshot.deadline:
            request.cancellation.limit(self._conf.snapshot.deadline)
        with (
            target.discarded_on_failure(),
            self._guest_of(request.instance.domain, target.context) as guest,
        ):
            target.check()
            # What is not supported is refused at once.
            if isinstance(target, ImageOfVolumes):
                self._volumes_plan(request.instance, guest, target)
            else:
                self._plan(request.instance, guest, obstacles(target))
            request.cancellation.watch(
                CancelRequest(
                    self._conf.snapshot.state_directory, guest.uuid
                ).heed
            )
            unfinished = Entry(
                guest.definition(), image=target.image, volumes=target.volumes
            ).given_back()
            with (
                self._journal.kept(unfinished),
                # While the journal knows of it.
                target.discarded_on_failure(),
            ):
                snapshot = self._take(guest, request, unfinished)
        events.tell(
            LOG.info,
            Event.TAKEN,
            f'Snapshot of domain {guest.name} is taken: {snapshot}',
            guest.uuid,
            path=snapshot.method,
            bytes=snapshot.size,
            seconds=snapshot.total_seconds,
            still_seconds=snapshot.still_seconds,
        )
        return snapshot

    def _reported(
        self, guest: Guest, plan: AnyPlan, request: Request
    ) -> contextlib.AbstractContextManager[Progress]:
        """The progress, told to the other processes of the host as well."""
        self._surroundings.planned(plan.path.value)
        return status.reported(
            self._conf.snapshot.state_directory,
            Status(
                domain=guest.name,
                uuid=guest.uuid,
                image=request.target.image,
                file=request.target.file,
                path=plan.path.value,
            ),
            request.progress,
        )

    def _take(
        self, guest: Guest, request: Request, unfinished: Entry
    ) -> Snapshot:
        if isinstance(request.target, ImageOfVolumes):
            return self._take_volumes(
                guest, request, request.target, unfinished
            )
        known = obstacles(request.target)
        tried: list[Path] = []
        while True:
            try:
                return self._take_as_planned(
                    guest, request, unfinished, known, tried
                )
            except exception.DirectRefused as error:
                refusal: exception.SnapshotError = error
                reason = error.fields['reason']
                more = dataclasses.replace(known, direct=reason)
                path = Path.DIRECT
            except exception.BackupRefused as error:
                refusal, reason = error, error.fields['reason']
                more = dataclasses.replace(known, backup=reason)
                path = Path.BACKUP
            # One that was not tried would be refused for ever.
            if tried[-1] is not path or not self._has_another_way(
                guest, request.instance, more, path
            ):
                raise refusal
            events.tell(
                LOG.warning,
                Event.REFUSED,
                refusal,
                guest.uuid,
                path=path.value,
                code=refusal.code,
            )
            known = more

    def _has_another_way(
        self, guest: Guest, instance: Instance, known: Obstacles, path: Path
    ) -> bool:
        """
        :param path: the one that was refused
        """
        try:
            plan = self._plan(instance, guest, known)
        except exception.NotSupported:
            return False
        return plan.path is not path

    def _take_as_planned(
        self,
        guest: Guest,
        request: Request,
        unfinished: Entry,
        known: Obstacles,
        tried: list[Path],
    ) -> Snapshot:
        """
        :param tried: the paths so far; this one is added
        """
        watch = Stopwatch()
        plan = self._plan(request.instance, guest, known)
        with (
            self._reported(guest, plan, request) as reported,
            contextlib.ExitStack() as disk_operation,
        ):
            request = dataclasses.replace(request, progress=reported)
            if not plan.stream:
                # A guest that is to be suspended is not yet, while the disks
                # of others are busy; nor is anything decided that may change.
                disk_operation.enter_context(
                    self._surroundings.disk_operation(request.cancellation)
                )
                plan = self._plan(request.instance, guest, known)
            _tell_plan(guest, plan)
            tried.append(plan.path)
            clone = self._clone(guest, plan, request)
            rest = dataclasses.replace(unfinished, clone=clone)
            with self._workspace(guest, plan, request.target) as workspace:
                quiesce = self._quiesce(guest, plan)
                means = self._means(guest, request, workspace, quiesce, clone)
                request.states.pending_upload()
                watch.lap('prepare')
                with self._delivery(
                    guest, plan, request, workspace, quiesce, clone
                ) as delivery:
                    with (
                        self._journal.kept(
                            entry_of(guest, plan, request.target.image, clone),
                            rest,
                        ),
                        CAPTURES[plan.path](guest, plan, means) as view,
                    ):
                        watch.lap('capture')
                        delivery.read(view)
                        watch.lap(delivery.reading)
                    watch.lap('give_back')
                    disk_operation.close()
                    proof = delivery.complete()
                if not plan.stream:
                    watch.lap('upload')
        return Snapshot.of(guest, plan, quiesce, proof, watch.laps)

    def _take_volumes(
        self,
        guest: Guest,
        request: Request,
        target: ImageOfVolumes,
        unfinished: Entry,
    ) -> Snapshot:
        """Have Cinder snapshot all volumes at one instant, and map them."""
        watch = Stopwatch()
        plan = self._volumes_plan(request.instance, guest, target)
        _tell_plan(guest, plan)
        quiesce = self._quiesce(guest, plan)
        stillness = Stillness(
            guest, plan, quiesce, self._conf.snapshot.stillness_timeout
        )
        snapshots = target.snapshots
        with self._reported(guest, plan, request) as progress:
            snapshots.prepare(target.name())
            quiesce.check()
            request.states.pending_upload()
            watch.lap('prepare')
            with (
                self._journal.kept(
                    entry_of_volumes(guest, plan, target), unfinished
                ),
                stillness.held() as until,
            ):
                snapshots.cut(guest.name, until, request.cancellation)
            watch.lap('cut')
            snapshots.wait_until_available(progress, request.cancellation)
            watch.lap('wait')
            request.states.uploading()
            # Whoever cancels it before it is shown is heard.
            request.cancellation.check()
            target.describe(metadata.of_volumes(plan, quiesce, stillness))
            watch.lap('describe')
        return Snapshot.of_volumes(
            guest, plan, quiesce, stillness, snapshots.ids(), watch.laps
        )

    @contextlib.contextmanager
    def _guest_of(
        self, domain: str, context: Context | None
    ) -> Iterator[Guest]:
        """The guest, healed, and no other snapshot of it meanwhile."""
        guest = self.guest(domain)
        with self._journal.exclusive(guest.uuid, guest.name):
            if recovery.heal(guest, self._journal, self._conf, context):
                self._surroundings.healed()
            yield guest

    def _plan(
        self, instance: Instance, guest: Guest, known: Obstacles
    ) -> Plan:
        plan = make_plan(
            self._conf,
            instance,
            guest.describe(),
            guest.power_state(),
            known,
        )
        _require_readable(guest, plan)
        return plan

    def _volumes_plan(
        self, instance: Instance, guest: Guest, target: ImageOfVolumes
    ) -> VolumesPlan:
        return make_volumes_plan(
            self._conf,
            instance,
            guest.describe(),
            guest.power_state(),
            len(target.volumes),
        )

    @contextlib.contextmanager
    def _workspace(
        self, guest: Guest, plan: Plan, target: Target
    ) -> Iterator[Workspace]:
        """A place for the temporary files, with the room that they need."""
        root = self._conf.libvirt.snapshots_directory
        with Workspace.open(root, guest.uuid) as workspace:
            destination = target.destination(root, plan.stream)
            require_space(
                guest.name, space.needs(guest, plan, root, destination)
            )
            yield workspace

    def _means(
        self,
        guest: Guest,
        request: Request,
        workspace: Workspace,
        quiesce: Quiesce,
        clone: Clone | None,
    ) -> Means:
        return Means(
            self._conf,
            workspace,
            quiesce,
            self._surroundings,
            request.progress,
            request.cancellation,
            lambda: self._is_disowned(guest),
            clone,
        )

    def _delivery(
        self,
        guest: Guest,
        plan: Plan,
        request: Request,
        workspace: Workspace,
        quiesce: Quiesce,
        clone: Clone | None,
    ) -> Delivery:
        if clone is not None:
            return Adoption(
                self._conf, guest.name, request, plan, quiesce, clone
            )
        if plan.stream:
            return Stream(self._conf, request, plan, quiesce)
        return Conversion(self._conf, request, plan, quiesce, workspace)

    def _clone(
        self, guest: Guest, plan: Plan, request: Request
    ) -> Clone | None:
        """What is to be made in Ceph, where anything is."""
        if plan.path is not Path.DIRECT:
            return None
        disk, target = plan.disk.rbd, request.target
        assert disk and target.context and target.image  # noqa: S101 (mypy)
        return direct.find(
            guest,
            Ceph(self._conf, disk.user),
            disk,
            Glance(target.context.glance_access()),
            target.image,
        )

    def _quiesce(self, guest: Guest, plan: AnyPlan) -> Quiesce:
        return Quiesce(
            guest,
            plan,
            self._conf.snapshot.quiesce_timeout,
            self._conf.snapshot.guest_timeout,
        )


def _tell_plan(guest: Guest, plan: AnyPlan) -> None:
    events.tell(
        LOG.info,
        Event.PLANNED,
        f'Snapshot of domain {guest.name}: {plan}',
        guest.uuid,
        path=plan.path.value,
        quiesce=plan.freeze,
    )


def obstacles(target: Target | None = None) -> Obstacles:
    """What can't be done in this process.

    :param target: of the image; None for any
    """
    has_libnbd = libnbd.is_available()
    to_file = target is not None and target.image is None
    return Obstacles(
        stream=None if has_libnbd else 'libnbd is missing',
        direct='it goes to a file' if to_file else None,
    )


def entry_of(
    guest: Guest, plan: Plan, image: str | None, clone: Clone | None = None
) -> Entry:
    """What the snapshot may take from the guest, for the journal."""
    if plan.path in (Path.DIRECT, Path.BACKUP):
        # The domain keeps its definition, and its job is found in libvirt.
        untouched = Entry(
            guest.definition(), image=image, clone=clone
        ).given_back()
        return dataclasses.replace(untouched, frozen=plan.freeze)
    suspended = plan.path is Path.COLD and guest.is_active()
    return Entry(
        guest.definition(),
        persistent=guest.persistent(),
        power_state=plan.power_state if suspended else None,
        devices=guest.describe().host_devices if suspended else (),
        frozen=plan.freeze,
        image=image,
    )


def entry_of_volumes(
    guest: Guest, plan: VolumesPlan, target: ImageOfVolumes
) -> Entry:
    """What the snapshot may take from the guest, and leave in Cinder."""
    untouched = Entry(
        guest.definition(), image=target.image, volumes=target.volumes
    ).given_back()
    return dataclasses.replace(
        untouched, frozen=plan.freeze, paused=plan.pause is not Pause.NEVER
    )


def _require_readable(guest: Guest, plan: Plan) -> None:
    """See that what is not read by QEMU can be read by this process.

    :raises NotSupported: it can't
    """
    if plan.path in (Path.DIRECT, Path.BACKUP):
        return
    if plan.path is Path.MIRROR and plan.disk.source == 'block':
        return
    path = plan.source.path
    if os.path.exists(path) and not os.access(path, os.R_OK):
        raise exception.NotSupported(
            domain=guest.name,
            reason=f'this user may not read its root disk {path}.',
        )
