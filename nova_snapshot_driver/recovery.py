# SPDX-License-Identifier: Apache-2.0
"""Undo what a dead snapshot left behind on a domain."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import events
from nova_snapshot_driver import exception
from nova_snapshot_driver import quiesce
from nova_snapshot_driver import volumes
from nova_snapshot_driver import workspace
from nova_snapshot_driver.capture import backup
from nova_snapshot_driver.capture import direct
from nova_snapshot_driver.cinder import Cinder
from nova_snapshot_driver.context import Context
from nova_snapshot_driver.domain import HostDevice
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.events import Event
from nova_snapshot_driver.guest import Definition
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.host import Host
from nova_snapshot_driver.image import Glance
from nova_snapshot_driver.image import discard_unfinished
from nova_snapshot_driver.image import is_complete
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.journal import Journal
from nova_snapshot_driver.rbd import Ceph
from nova_snapshot_driver.rbd import Clone

LOG = logging.getLogger(__name__)

#: How long a nova-compute that starts, or a snapshot that begins, tries to
#: delete the snapshots in Cinder of one that died, in seconds.
RECOVERY_PATIENCE = 30


def find_guest(host: Host, journal: Journal, domain: str) -> Guest:
    """The guest of a domain, even of one that a dead snapshot has lost.

    :param domain: name or UUID
    :raises DomainNotFound: there is none, and there was none
    """
    try:
        return host.guest(domain)
    except exception.DomainNotFound:
        entry = journal.find(domain)
        if entry is None:
            raise
    uuid = entry.definition.uuid
    with journal.exclusive(uuid, entry.definition.name):
        # Another process may have come first.
        entry = journal.recall(uuid)
        if entry is not None and entry.persistent:
            LOG.warning(
                'Domain %s stopped while a snapshot that died had it '
                'transient; it is defined again',
                entry.definition.name,
            )
            host.define(entry.definition)
            # Its image is still there.
            journal.remember(dataclasses.replace(entry, persistent=False))
    return host.guest(domain)


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing that is undone.

    :ivar what: in words, as one asks somebody to do it
    :ivar error: why it is not undone; None if it is, or is to be
    """

    what: str
    error: exception.SnapshotError | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What has become of one domain."""

    domain: str
    uuid: str
    steps: tuple[Step, ...]

    @property
    def is_healed(self) -> bool:
        """There was something to undo, and nothing of it is left."""
        return bool(self.steps) and not self.errors

    @property
    def errors(self) -> list[exception.SnapshotError]:
        return [step.error for step in self.steps if step.error is not None]

    def check(self) -> None:
        """See that nothing stays that is in the way of the next snapshot.

        :raises RecoveryIncomplete: several things stay, or an error of its own
            for a single one
        """
        errors = []
        for error in self.errors:
            if isinstance(error, exception.ImageLeftBehind):
                LOG.warning('%s', error)
            else:
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise exception.RecoveryIncomplete(
                domain=self.domain,
                count=len(errors),
                reasons=' '.join(str(error) for error in errors),
            )


def heal(
    guest: Guest,
    journal: Journal,
    conf: cfg.ConfigOpts,
    context: Context | None,
) -> Outcome:
    """Give a domain back as it was before a snapshot that died.

    To be called by the only snapshot of the domain. What can't be undone now
    stays in the journal.

    :param context: in which the image of that snapshot can be deleted
    """
    entry = journal.recall(guest.uuid)
    if entry is not None and not entry.is_given_back:
        events.tell(
            LOG.warning,
            Event.ABANDONED,
            f'Domain {guest.name}: a snapshot died before it had given it '
            'back',
            guest.uuid,
        )
    recovery = _Recovery(guest.uuid, guest.name, entry, conf)
    recovery.of_guest(guest)
    recovery.of_the_rest(context)
    recovery.settle(journal)
    return recovery.outcome()


def is_due(guest: Guest, conf: cfg.ConfigOpts) -> bool:
    """Whether it has a job of ours, as far as QEMU need not be asked.

    It may be that of a snapshot that is alive.
    """
    directories = list(backup.directories(conf))
    disk = guest.describe().root_disk
    places = [
        guest.backup_socket(),
        disk.mirror.path if disk and disk.mirror else None,
    ]
    return any(place and _lies_in(place, directories) for place in places)


def forget_lost(
    uuid: str,
    name: str,
    journal: Journal,
    conf: cfg.ConfigOpts,
    context: Context | None,
) -> Outcome:
    """Clean up after a snapshot that died, of a domain that is gone too.

    :raises DomainBusy: the snapshot is alive
    """
    with journal.exclusive(uuid, name):
        # Another process may have come first.
        entry = journal.recall(uuid)
        recovery = _Recovery(uuid, name, entry and entry.given_back(), conf)
        recovery.of_the_rest(context)
        recovery.settle(journal)
    return recovery.outcome()


def rehearse(
    host: Host,
    uuid: str,
    name: str,
    entry: Entry | None,
    conf: cfg.ConfigOpts,
) -> Outcome:
    """What would be undone of a snapshot that died. Nothing is touched."""
    recovery = _Recovery(uuid, name, entry, conf, is_rehearsal=True)
    try:
        recovery.of_guest(host.guest(uuid))
    except exception.DomainNotFound:
        recovery.of_one_that_is_gone()
    recovery.of_the_rest(None)
    return recovery.outcome()


def give_back(guest: Guest, entry: Entry, conf: cfg.ConfigOpts) -> None:
    """Undo what an entry says of the guest, unless it is undone already.

    :raises SnapshotError: something can't be undone
    """
    recovery = _Recovery(guest.uuid, guest.name, entry, conf)
    recovery.wake(guest)
    recovery.restore(guest)
    recovery.outcome().check()


class _Recovery:
    """The end of one snapshot that died, step by step.

    A step that fails does not stop others, unless they need it.

    :param entry: of it in the journal; None where there is none
    :param is_rehearsal: nothing is done
    """

    def __init__(
        self,
        uuid: str,
        name: str,
        entry: Entry | None,
        conf: cfg.ConfigOpts,
        is_rehearsal: bool = False,
    ) -> None:
        self._uuid = uuid
        self._name = name
        self._entry = entry
        self._conf = conf
        self._is_rehearsal = is_rehearsal
        self._rest = entry
        self._steps: list[Step] = []
        self._is_up = True
        self._jobs_have_ended = True
        self._image_is_complete = False

    def outcome(self) -> Outcome:
        return Outcome(self._name, self._uuid, tuple(self._steps))

    def settle(self, journal: Journal) -> None:
        """Have in the journal what is not undone."""
        if not any(step.error for step in self._steps):
            journal.forget(self._uuid)
            self._tell()
        elif self._rest is not None:
            journal.remember(_without_secrets(self._rest))

    def _tell(self) -> None:
        if self._steps:
            events.tell(
                LOG.info,
                Event.HEALED,
                f'Domain {self._name}: nothing is left of the snapshot that '
                'died',
                self._uuid,
            )

    def of_guest(self, guest: Guest) -> None:
        """Whoever stands still comes first."""
        self.wake(guest)
        self._end_jobs(guest)
        self.restore(guest)

    def of_one_that_is_gone(self) -> None:
        """Its guest stopped while it was transient, if it was to stay."""
        if self._entry is not None and self._entry.persistent:
            self._steps.append(Step('have it defined'))

    def of_the_rest(self, context: Context | None) -> None:
        """What is left beside the guest: on this host, and in the cloud."""
        # A job that still runs has them open.
        for directory in self._directories() if self._jobs_have_ended else ():
            self._remove_files(directory)
        if self._entry is not None:
            self._remove_draft(self._entry.draft)
            self._finish_image(self._entry, context)

    # The guest

    def wake(self, guest: Guest) -> None:
        """Have it as lively as it was found."""
        entry = self._entry
        if entry is None:
            return
        state = entry.power_state
        if state is not None:
            self._is_up = self._undo(
                f'have it {state.value} again',
                lambda: guest.bring_back(state),
                power_state=None,
            )
        if not self._is_up:
            return
        # No agent answers in a guest that is paused.
        if entry.paused and not self._undo(
            'resume it', guest.unpause, self._runs(guest), paused=False
        ):
            return
        if entry.frozen:
            self._undo(
                'thaw its file systems',
                lambda: self._thaw(guest),
                self._runs(guest),
                frozen=False,
            )

    def _thaw(self, guest: Guest) -> None:
        quiesce.thaw(
            guest,
            self._conf.snapshot.quiesce_timeout,
            self._conf.snapshot.guest_timeout,
        )

    def restore(self, guest: Guest) -> None:
        """Have it equipped as it was found."""
        entry = self._entry
        if entry is None:
            return
        if entry.persistent:
            self._undo(
                'have it defined',
                lambda: _define_again(guest, entry.definition),
                persistent=False,
            )
        left = entry.devices if self._is_up else ()
        for device in left:
            self._attach(guest, device)

    def _attach(self, guest: Guest, device: HostDevice) -> None:
        assert self._rest is not None  # noqa: S101 (for mypy)
        others = tuple(each for each in self._rest.devices if each != device)
        self._undo(
            f'attach {device.alias}',
            # One that is still there may have been asked to go.
            lambda: guest.attach(device, self._conf.snapshot.guest_timeout),
            self._runs(guest),
            devices=others,
        )

    def _runs(self, guest: Guest) -> Callable[[], bool]:
        """Whether there is anything that could have been taken from it."""

        def look() -> bool:
            if guest.is_active():
                return True
            is_to_start = self._entry is not None and self._entry.power_state
            return bool(
                self._is_rehearsal
                and is_to_start
                and guest.power_state() is PowerState.SUSPENDED
            )

        return look

    def _end_jobs(self, guest: Guest) -> None:
        timeout = self._conf.snapshot.guest_timeout
        directories = self._directories()

        def end_backup() -> None:
            LOG.warning(
                'Domain %s: a backup job was left behind and is ended',
                guest.name,
            )
            guest.abort_job(timeout)
            guest.try_again()

        def end_copy() -> None:
            disk = guest.describe().root_disk
            # It may have ended meanwhile.
            if disk is None or disk.mirror is None:
                return
            LOG.warning(
                'Domain %s: the copy of %s to %s was left behind and is ended',
                guest.name,
                disk.target,
                disk.mirror.path,
            )
            guest.abort_block_job(disk, timeout)

        self._jobs_have_ended = self._undo(
            'end its backup job',
            end_backup,
            lambda: _has_abandoned_backup(guest, directories),
            # To libvirt it is a block job too.
        ) and self._undo(
            'end the copy of its disk',
            end_copy,
            # A rehearsal does not end it, and there is no other beside it.
            lambda: (
                guest.backup_socket() is None
                and _has_abandoned_copy(guest, directories)
            ),
        )

    # This host

    def _directories(self) -> list[str]:
        """Where its files are, or where those of others like it are."""
        own = self._entry.directories if self._entry is not None else ()
        return sorted({*own, *backup.directories(self._conf)})

    def _remove_files(self, directory: str) -> None:
        def remove() -> None:
            left = workspace.remove_abandoned(directory, self._uuid)
            if left:
                raise exception.NotGivenBack(
                    domain=self._name,
                    undo='remove its temporary files',
                    reason='they are still there',
                    remedy=f'Remove {", ".join(left)}.',
                )

        self._undo(
            f'remove its temporary files in {directory}',
            remove,
            lambda: bool(workspace.abandoned(directory, self._uuid)),
        )

    def _remove_draft(self, draft: str | None) -> None:
        if draft is None:
            return

        def remove() -> None:
            try:
                os.unlink(draft)
            except OSError as error:
                raise exception.NotGivenBack(
                    domain=self._name,
                    undo=f'remove {draft}',
                    reason=error.strerror,
                    remedy='Remove it.',
                ) from error

        self._undo(
            f'remove {draft}',
            remove,
            lambda: os.path.lexists(draft),
            draft=None,
        )

    # The cloud

    def _finish_image(self, entry: Entry, context: Context | None) -> None:
        clone = entry.clone
        finished = []
        if clone is not None:
            finished.append(
                self._undo(
                    f'remove the snapshot {clone.disk}@{clone.snapshot}',
                    lambda: _detach_clone(self._name, clone, self._conf),
                )
            )
        is_known = self._discard_image(entry, context)
        finished.append(is_known)
        if clone is not None:
            finished.append(
                self._undo(
                    f'remove the clone {clone.image}, unless it is complete',
                    lambda: _remove_clone(
                        self._name, clone, is_known, self._conf
                    ),
                    lambda: not self._image_is_complete,
                )
            )
        # The clone of one that is not known any more would be nobody's.
        if all(finished):
            self._is_undone(image=None, volumes=(), clone=None)

    def _discard_image(self, entry: Entry, context: Context | None) -> bool:
        image = entry.image
        if image is None:
            return True

        def discard() -> None:
            self._image_is_complete = _discard(
                entry, image, context, self._conf
            )

        return self._undo(
            f'delete image {image}, unless it is complete', discard
        )

    # All

    def _undo(
        self,
        what: str,
        action: Callable[[], None],
        is_due: Callable[[], bool] = lambda: True,
        **undone: Any,
    ) -> bool:
        """Undo one thing, as far as it is not undone already.

        :param undone: what the entry says from then on
        :returns: whether it is undone
        """
        try:
            if is_due():
                if not self._is_rehearsal:
                    action()
                self._steps.append(Step(what))
        except exception.SnapshotError as error:
            self._steps.append(Step(what, error))
            return False
        self._is_undone(**undone)
        return True

    def _is_undone(self, **undone: Any) -> None:
        if self._rest is not None:
            self._rest = dataclasses.replace(self._rest, **undone)


def _without_secrets(entry: Entry) -> Entry:
    """Those of a definition that is there again."""
    if entry.persistent:
        return entry
    definition = dataclasses.replace(entry.definition, xml='')
    return dataclasses.replace(entry, definition=definition)


def _detach_clone(domain: str, clone: Clone, conf: cfg.ConfigOpts) -> None:
    """Remove the snapshot of the disk, and a clone that still needs it.

    That one is not complete, and no image.
    """
    ceph = Ceph(conf, clone.disk.user)
    with contextlib.suppress(exception.CephNotFound, exception.CephDenied):
        parent = ceph.parent(clone.image)
        if parent is not None and parent[1] == clone.snapshot:
            direct.remove_clone(domain, ceph, clone)
    direct.remove_snapshot(domain, ceph, clone)


def _remove_clone(
    domain: str, clone: Clone, is_no_image: bool, conf: cfg.ConfigOpts
) -> None:
    """Remove a clone that is no image.

    :raises NotGivenBack: nobody knows whether it is one
    """
    if not is_no_image:
        raise exception.NotGivenBack(
            domain=domain,
            undo=f'remove the clone {clone.image} in Ceph',
            reason='nobody knows whether it is the data of an image',
            remedy='The next snapshot of the domain, or start of '
            'nova-compute, at which Glance answers tries it again.',
        )
    direct.remove_clone(domain, Ceph(conf, clone.disk.user), clone)


def _discard(
    entry: Entry, image: str, context: Context | None, conf: cfg.ConfigOpts
) -> bool:
    """Delete an image that is not complete, and what it is made of.

    :returns: whether it is active
    :raises ImageLeftBehind: it is not known to be deleted
    """
    if context is None:
        reason = 'Glance is not asked here'
    else:
        try:
            is_active = _discarded(entry, image, context, conf)
        except exception.SnapshotError as error:
            reason = str(error).rstrip('.')
        else:
            LOG.warning(
                'Image %s of a snapshot that died is gone, or was complete',
                image,
            )
            return is_active
    raise exception.ImageLeftBehind(
        image=image, cause='it died', reason=reason
    )


def _discarded(
    entry: Entry, image: str, context: Context, conf: cfg.ConfigOpts
) -> bool:
    glance = Glance(context.glance_access())
    # One that is complete is somebody's, with all that it maps.
    if entry.volumes and not is_complete(glance, image):
        volumes.discard(
            lambda: Cinder(context.cinder_access()),
            image,
            entry.volumes,
            min(conf.snapshot.volume_timeout, RECOVERY_PATIENCE),
            # What it has asked for may not have been made yet.
            late=volumes.LATE_REQUEST,
            cause='it died',
        )
    return discard_unfinished(glance, image)


def _define_again(guest: Guest, definition: Definition) -> None:
    if _is_persistent(guest):
        # The operator's own, or ours, cut short before its last step.
        guest.set_autostart(definition.autostart)
    else:
        LOG.warning('Domain %s is defined again', guest.name)
        guest.define(definition)


def _is_persistent(guest: Guest) -> bool:
    try:
        return guest.persistent()
    except exception.DomainNotFound:
        # It has stopped while it was transient.
        return False


def _has_abandoned_backup(guest: Guest, directories: list[str]) -> bool:
    """
    :raises ForeignJob: it has one that is not ours
    """
    socket = guest.backup_socket()
    if socket is None:
        return False
    if not socket or not _lies_in(socket, directories):
        raise exception.ForeignJob(domain=guest.name, job='backup')
    return True


def _has_abandoned_copy(guest: Guest, directories: list[str]) -> bool:
    """
    :raises ForeignBlockJob: its root disk has a job that is not ours
    """
    disk = guest.describe().root_disk
    if disk is None or not guest.is_active():
        return False
    job = guest.block_job(disk)
    if job is None:
        return False
    target = disk.mirror.path if disk.mirror else None
    if target is None or not _lies_in(target, directories):
        raise exception.ForeignBlockJob(
            domain=guest.name,
            disk=disk.target,
            job=job if target is None else f'{job} to {target}',
        )
    return True


def _lies_in(path: str, directories: list[str]) -> bool:
    path = os.path.realpath(path)
    roots = [os.path.realpath(directory) for directory in directories]
    return any(os.path.commonpath([path, root]) == root for root in roots)
