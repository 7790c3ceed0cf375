# SPDX-License-Identifier: Apache-2.0
"""The snapshot of an instance, from the request to the proven image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import tenacity
from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import events
from nova_snapshot_driver import exception
from nova_snapshot_driver import journal
from nova_snapshot_driver import metadata
from nova_snapshot_driver import recovery
from nova_snapshot_driver import undo
from nova_snapshot_driver import watch
from nova_snapshot_driver.cancel_request import CancelRequest
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.capture import backup
from nova_snapshot_driver.context import Context
from nova_snapshot_driver.events import Event
from nova_snapshot_driver.glance import Glance
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.host import Host
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.journal import Journal
from nova_snapshot_driver.progress import Progress
from nova_snapshot_driver.progress import silent
from nova_snapshot_driver.recovery import Outcome
from nova_snapshot_driver.recovery import Step
from nova_snapshot_driver.request import Request
from nova_snapshot_driver.request import TaskStates
from nova_snapshot_driver.result import Snapshot
from nova_snapshot_driver.surroundings import Surroundings
from nova_snapshot_driver.target import GlanceImage
from nova_snapshot_driver.target import OutputFile
from nova_snapshot_driver.volumes import ImageOfVolumes
from nova_snapshot_driver.ways import Task
from nova_snapshot_driver.ways import Way
from nova_snapshot_driver.ways.disk import DiskWay
from nova_snapshot_driver.ways.volumes import VolumesWay

LOG = logging.getLogger(__name__)

#: How long the watchdog of a snapshot that died may be at it, in seconds, and
#: how often it is looked whether it has ended.
RESCUE_TIMEOUT = 5
RESCUE_INTERVAL = 0.2


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
        return self._take(
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
        return self._take(
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

    def heal(self, context: Context) -> list[Outcome]:
        """Give back, on all domains, what snapshots that died had taken.

        A domain that can't be healed is logged, and does not stop the others.

        :param context: in which their images can be deleted
        """
        known = {
            entry.definition.uuid: entry.definition.name
            for entry in self._journal.entries()
        }
        outcomes = [
            self._heal(uuid, name, context)
            for uuid, name in {**self._with_our_jobs(), **known}.items()
        ]
        return [outcome for outcome in outcomes if outcome is not None]

    def heal_domain(
        self, uuid: str, name: str, context: Context | None
    ) -> Outcome:
        """The same, on one domain.

        :param context: None where nobody asks Glance
        :raises DomainBusy: its snapshot is alive
        """
        try:
            guest = self.guest(uuid)
        except exception.DomainNotFound:
            outcome = recovery.forget_lost(
                uuid, name, self._journal, self._conf, context
            )
        else:
            with self._journal.exclusive(uuid, name):
                outcome = recovery.heal(
                    guest, self._journal, self._conf, context
                )
        self._count(outcome)
        return outcome

    def rehearse_healing(self) -> list[Outcome]:
        """What ``heal`` would do. Nothing is touched.

        Not to be asked in a process that takes snapshots.
        """
        directory = self._conf.snapshot.state_directory
        entries = journal.abandoned(directory)
        known = [entry.definition.uuid for entry in entries]
        outcomes = [
            recovery.rehearse(
                self._host,
                entry.definition.uuid,
                entry.definition.name,
                entry,
                self._conf,
            )
            for entry in entries
        ]
        for uuid, name in self._with_our_jobs().items():
            if uuid not in known and not journal.is_locked(directory, uuid):
                outcomes.append(
                    recovery.rehearse(self._host, uuid, name, None, self._conf)
                )
        return outcomes

    def _with_our_jobs(self) -> dict[str, str]:
        """The names of domains, by UUID, which the journal may not know."""
        try:
            guests = self._host.active_guests()
        except exception.SnapshotError as error:
            # Those that it knows are not to suffer from it.
            LOG.error('%s', error)
            return {}
        found = {}
        for guest in guests:
            try:
                if recovery.is_due(guest, self._conf):
                    found[guest.uuid] = guest.name
            except exception.SnapshotError as error:
                LOG.error('%s', error, instance_uuid=guest.uuid)
        return found

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
            with watch.kept(self._conf, guest), self._journal.kept(entry):
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

    def _give_back(self, guest: Guest) -> None:
        entry = self._journal.recall(guest.uuid)
        if entry is not None and not entry.is_given_back:
            recovery.give_back(guest, entry, self._conf)

    def _heal(self, uuid: str, name: str, context: Context) -> Outcome | None:
        """
        :returns: None for a domain whose snapshot is alive
        """
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(exception.DomainBusy),
            stop=tenacity.stop_after_delay(RESCUE_TIMEOUT),
            wait=tenacity.wait_fixed(RESCUE_INTERVAL),
            reraise=True,
        )
        try:
            outcome = attempts(self.heal_domain, uuid, name, context)
        except exception.DomainBusy:
            LOG.info('Domain %s is being snapshotted', name)
            return None
        except exception.SnapshotError as error:
            outcome = Outcome(name, uuid, (Step('look after it', error),))
        for left in outcome.errors:
            events.tell(
                LOG.error, Event.NOT_HEALED, left, uuid, code=left.code
            )
        return outcome

    def _take(self, request: Request) -> Snapshot:
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
            task = self._task(guest, request)
            way = _way_of(task)
            # What is not supported is refused at once.
            way.check()
            request.cancellation.watch(
                CancelRequest(
                    self._conf.snapshot.state_directory, guest.uuid
                ).heed
            )
            with (
                self._journal.kept(task.unfinished),
                # While the journal knows of it.
                target.discarded_on_failure(),
            ):
                snapshot = way.take()
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

    def _task(self, guest: Guest, request: Request) -> Task:
        target = request.target
        unfinished = Entry(
            guest.definition(),
            image=target.image,
            volumes=target.volumes,
            directories=backup.directories(self._conf),
            draft=target.draft,
        ).given_back()
        return Task(
            self._conf,
            self._journal,
            self._surroundings,
            guest,
            request,
            unfinished,
        )

    @contextlib.contextmanager
    def _guest_of(
        self, domain: str, context: Context | None
    ) -> Iterator[Guest]:
        """The guest, healed, and no other snapshot of it meanwhile."""
        guest = self.guest(domain)
        with self._journal.exclusive(guest.uuid, guest.name):
            outcome = recovery.heal(guest, self._journal, self._conf, context)
            self._count(outcome)
            outcome.check()
            yield guest

    def _count(self, outcome: Outcome) -> None:
        if outcome.is_healed:
            self._surroundings.healed()


def _way_of(task: Task) -> Way:
    if isinstance(task.request.target, ImageOfVolumes):
        return VolumesWay(task, task.request.target)
    return DiskWay(task)
