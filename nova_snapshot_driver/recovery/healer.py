# SPDX-License-Identifier: Apache-2.0
"""The healer, which gives back what dead snapshots took from guests."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common.events import Event
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.hypervisor.libvirt_objects import Patience
from nova_snapshot_driver.recovery import dead_snapshot
from nova_snapshot_driver.recovery.account import Outcome
from nova_snapshot_driver.recovery.account import Step
from nova_snapshot_driver.snapshot.capture.environment import Environment
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.state import journal
from nova_snapshot_driver.state import locks
from nova_snapshot_driver.state import state_directory
from nova_snapshot_driver.state import watchdog
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings.device import DetachedDevice
from nova_snapshot_driver.takings.managed_save import ManagedSave
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.tools import UndoSettings
from nova_snapshot_driver.takings.undefine import Undefine

LOG = logging.getLogger(__name__)

#: How long the watchdog of a snapshot that died may take, in seconds, and how
#: often it is looked whether it has ended.
RESCUE_TIMEOUT = 5
RESCUE_INTERVAL = 0.2


class Healer:
    """Gives back what snapshots of this host that died had taken."""

    def __init__(
        self,
        settings: UndoSettings,
        host: Host,
        environment: Environment | None = None,
    ) -> None:
        self._settings = settings
        self._host = host
        host.have_patience(
            Patience(settings.qemu_timeout, settings.quiesce_timeout)
        )
        self._environment = environment or Environment()
        self._journal = Journal(settings.state_directory)

    def heal(self, context: Context) -> list[Outcome]:
        """Give back, on all domains, what snapshots that died had taken.

        A domain that can't be healed is logged, and does not stop the others.

        :param context: in which their images can be deleted
        """
        entries = self._journal.entries()
        suspects = self._with_something_of_ours()
        known = {entry.uuid: entry.name for entry in entries.found}
        outcomes = [
            *map(_unread, entries.unreadable),
            *suspects.unseen,
            *(
                self._heal(uuid, name, context)
                for uuid, name in {**suspects.names, **known}.items()
            ),
        ]
        found = [outcome for outcome in outcomes if outcome is not None]
        for outcome in found:
            _log_left(outcome)
        return found

    def heal_domain(
        self, uuid: str, name: str, context: Context | None
    ) -> Outcome:
        """Give back, on one domain, what a snapshot that died had taken.

        :param context: None where nobody asks Glance
        :raises DomainBusy: its snapshot is alive
        """
        try:
            guest = self.guest(uuid)
        except exception.DomainNotFound:
            outcome = dead_snapshot.forget_lost(
                uuid, name, self._journal, self._settings, context
            )
        else:
            with self._journal.exclusive(uuid, name):
                outcome = dead_snapshot.heal(
                    guest, self._journal, self._settings, context
                )
        self._count(outcome)
        return outcome

    def rehearse(self) -> list[Outcome]:
        """Report what ``heal`` would do, and touch nothing.

        Not to be called in a process that takes snapshots.
        """
        directory = self._settings.state_directory
        entries = journal.abandoned(directory)
        suspects = self._with_something_of_ours()
        known = {entry.uuid: entry for entry in entries.found}
        names = {
            uuid: name
            for uuid, name in suspects.names.items()
            if not locks.is_locked(directory, uuid)
        } | {entry.uuid: entry.name for entry in entries.found}
        return [
            *map(_unread, entries.unreadable),
            *suspects.unseen,
            *(
                dead_snapshot.rehearse(
                    self._host,
                    self._journal,
                    uuid,
                    name,
                    known.get(uuid),
                    self._settings,
                )
                for uuid, name in names.items()
            ),
        ]

    def guest(self, domain: str) -> Guest:
        """The guest of a domain, by name or UUID.

        :raises DomainNotFound: there is none
        """
        return dead_snapshot.find_guest(
            self._host, self._journal, domain, self._settings.qemu_timeout
        )

    @contextlib.contextmanager
    def healed_guest(
        self, domain: str, context: Context | None
    ) -> Iterator[Guest]:
        """The guest, healed, and no other snapshot of it meanwhile."""
        guest = self.guest(domain)
        with self._journal.exclusive(guest.uuid, guest.name):
            outcome = dead_snapshot.heal(
                guest, self._journal, self._settings, context
            )
            self._count(outcome)
            outcome.check()
            yield guest

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
        with self.healed_guest(domain, context) as guest:
            self._remove_our_words(image, context)
            entry = Entry(guest.name, guest.uuid, tuple(_of_others(guest)))
            with (
                watchdog.kept(self._settings, guest),
                self._journal.kept(entry),
            ):
                try:
                    yield
                finally:
                    undo.retry_undo(
                        guest.name,
                        'give the guest back',
                        lambda: self._give_back(guest),
                        'The next snapshot of it tries again.',
                    )

    def forget_domain(self, uuid: str) -> None:
        """Give nothing back to a domain any more: its owner destroys it.

        Images of its snapshots that died are still deleted.
        """
        self._journal.forget_domain(uuid, self._settings.qemu_timeout)

    def _heal(self, uuid: str, name: str, context: Context) -> Outcome | None:
        """
        :returns: None for a domain whose snapshot is alive
        """
        try:
            outcome = retry.call(
                lambda: self.heal_domain(uuid, name, context),
                f'Domain {name}: look after it',
                exception.DomainBusy,
                timeout=RESCUE_TIMEOUT,
                pause=RESCUE_INTERVAL,
            )
        except exception.DomainBusy:
            LOG.info('Domain %s is being snapshotted', name)
            return None
        except exception.SnapshotError as error:
            outcome = Outcome(name, uuid, (Step('look after it', error),))
        return outcome

    def _with_something_of_ours(self) -> _Suspects:
        """The domains that the journal may not know."""
        try:
            guests = self._host.guests()
        except exception.SnapshotError as error:
            # Domains that the journal knows are healed all the same.
            step = Step('see what snapshots have left', error)
            return _Suspects({}, (Outcome(None, None, (step,)),))
        names, unseen = {}, []
        for guest in guests:
            try:
                if dead_snapshot.is_due(guest, self._settings):
                    names[guest.uuid] = guest.name
            except exception.DomainNotFound:
                # The job is gone with its guest.
                continue
            except exception.SnapshotError as error:
                step = Step('see what a snapshot has left', error)
                unseen.append(Outcome(guest.name, guest.uuid, (step,)))
        return _Suspects(names, tuple(unseen))

    def _remove_our_words(self, image: str, context: Context) -> None:
        try:
            Glance(context.glance_access()).remove_properties(
                image, metadata.OURS
            )
        except exception.SnapshotError as error:
            # The snapshot will meet an error that lasts, too.
            LOG.warning('%s', error)

    def _give_back(self, guest: Guest) -> None:
        entry = self._journal.recall(guest.uuid)
        if entry is not None and not entry.is_given_back:
            dead_snapshot.give_back(
                guest, self._journal, entry, self._settings
            )

    def _count(self, outcome: Outcome) -> None:
        if outcome.is_healed:
            self._environment.healed()


@dataclasses.dataclass(frozen=True)
class _Suspects:
    """The domains that may have lost something, as libvirt shows them.

    :ivar names: of those with a job or a checkpoint of ours, by their UUID
    :ivar unseen: an outcome for each look that could not be had
    """

    names: dict[str, str]
    unseen: tuple[Outcome, ...]


def _unread(error: exception.StateUnreadable) -> Outcome:
    """The outcome where nobody knows what a snapshot has taken."""
    uuid = state_directory.domain_of(error)
    return Outcome(uuid, uuid, (Step('read its journal', error),))


def _log_left(outcome: Outcome) -> None:
    for left in outcome.errors:
        events.log_event(
            LOG.error, Event.NOT_HEALED, left, outcome.uuid, code=left.code
        )


def _of_others(guest: Guest) -> Iterator[Taking]:
    """All that a snapshot of Nova's own driver may take."""
    if guest.persistent():
        yield Undefine(guest.definition())
    if guest.is_active():
        yield ManagedSave(guest.power.state())
        yield from map(DetachedDevice, guest.describe().host_devices)
