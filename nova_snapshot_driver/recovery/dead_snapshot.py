# SPDX-License-Identifier: Apache-2.0
"""A snapshot that died, and the undo of what it left behind."""

from __future__ import annotations

import contextlib
import dataclasses

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common.events import Event
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.recovery.account import Outcome
from nova_snapshot_driver.recovery.account import RecoveryLog
from nova_snapshot_driver.snapshot import undo_tools
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings import jobs
from nova_snapshot_driver.takings import registry
from nova_snapshot_driver.takings import temporary_files
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.temporary_files import TemporaryFiles
from nova_snapshot_driver.takings.tools import UndoSettings
from nova_snapshot_driver.takings.tools import UndoTools
from nova_snapshot_driver.takings.undefine import Undefine

LOG = logging.getLogger(__name__)


def find_guest(
    host: Host, journal: Journal, domain: str, patience: float
) -> Guest:
    """The guest of a domain, even of one that a dead snapshot has lost.

    :param domain: name or UUID
    :param patience: the seconds after which an owner who is about to destroy
        a lost domain is waited for no longer
    :raises DomainNotFound: there is none, and there was none, or its owner has
        begun to destroy it
    :raises DomainBusy: the owner takes longer, or another process has it
    """
    try:
        return host.guest(domain)
    except exception.DomainNotFound:
        entry = journal.find(domain)
        if entry is None:
            raise
    with (
        journal.exclusive(entry.uuid, entry.name),
        journal.claimed(entry.uuid, entry.name, patience) as is_wanted,
    ):
        # Another process may have come first.
        entry = journal.recall(entry.uuid)
        if entry is not None and is_wanted:
            for lost in entry.of_kind(Undefine):
                LOG.warning(
                    'Domain %s stopped while a snapshot that died had it '
                    'transient; it is defined again',
                    lost.definition.name,
                )
                host.define(lost.definition)
            # The image of the snapshot may still be there.
            journal.remember(entry.without(Undefine))
    return host.guest(domain)


def heal(
    guest: Guest,
    journal: Journal,
    settings: UndoSettings,
    context: Context | None,
) -> Outcome:
    """Give a domain back as it was before a snapshot that died.

    To be called by the only snapshot of the domain. What can't be undone now
    stays in the journal.

    :param context: in which the image of that snapshot can be deleted
    """
    entry = journal.recall(guest.uuid)
    if entry is not None and not entry.is_given_back:
        events.log_event(
            LOG.warning,
            Event.ABANDONED,
            f'Domain {guest.name}: a snapshot died before it had given it '
            'back',
            guest.uuid,
        )
    log = RecoveryLog(guest.uuid, guest.name, entry)
    _undo(log, _tools(settings, journal, log, guest, context))
    log.settle(journal)
    return log.outcome()


def is_due(guest: Guest, settings: UndoSettings) -> bool:
    """Whether a guest has something of ours, as far as QEMU need not be asked.

    It may be that of a snapshot that is alive.
    """
    return bool(guest.checkpoints.names()) or jobs.has_any(
        guest, settings.directories
    )


def forget_lost(
    uuid: str,
    name: str,
    journal: Journal,
    settings: UndoSettings,
    context: Context | None,
) -> Outcome:
    """Clean up after a snapshot that died, of a domain that is gone too.

    :raises DomainBusy: the snapshot is alive
    """
    with journal.exclusive(uuid, name):
        # Another process may have come first.
        entry = journal.recall(uuid)
        log = RecoveryLog(uuid, name, entry and entry.given_back())
        _undo(log, _tools(settings, journal, log, None, context))
        log.settle(journal)
    return log.outcome()


def rehearse(
    host: Host,
    journal: Journal,
    uuid: str,
    name: str,
    entry: Entry | None,
    settings: UndoSettings,
) -> Outcome:
    """Report what would be undone of a dead snapshot, and touch nothing."""
    log = RecoveryLog(uuid, name, entry, is_rehearsal=True)
    guest = None
    with contextlib.suppress(exception.DomainNotFound):
        guest = host.guest(uuid)
    tools = _tools(settings, journal, log, guest, None)
    if guest is None and entry is not None:
        # The guest stopped while its domain was transient.
        for lost in entry.of_kind(Undefine):
            log.undo(lost, tools)
    _undo(log, tools)
    return log.outcome()


def give_back(
    guest: Guest, journal: Journal, entry: Entry, settings: UndoSettings
) -> None:
    """Undo what an entry says of the guest, unless it is undone already.

    :raises SnapshotError: something can't be undone
    """
    log = RecoveryLog(guest.uuid, guest.name, entry)
    tools = _tools(settings, journal, log, guest, None)
    for taking in entry.takings:
        if taking.WHOSE is Whose.GUEST:
            log.undo(taking, tools)
    log.outcome().check()


def _tools(
    settings: UndoSettings,
    journal: Journal,
    log: RecoveryLog,
    guest: Guest | None,
    context: Context | None,
) -> UndoTools:
    tools = undo_tools.of(settings, journal, log.uuid, log.name, guest)
    takings = () if log.entry is None else log.entry.takings
    return dataclasses.replace(
        tools,
        named=tuple(
            each.directory
            for each in takings
            if isinstance(each, TemporaryFiles)
        ),
        cloud=context,
        is_rehearsal=log.is_rehearsal,
        is_to_start=any(each.STARTS_GUEST for each in takings),
    )


def _undo(log: RecoveryLog, tools: UndoTools) -> None:
    """Undo what the journal knows, and what it does not know."""
    guest = tools.found
    answers = guest is not None and log.can_see(
        'see what is left', guest.see_that_it_answers
    )
    known = () if log.entry is None else log.entry.takings
    for taking in registry.in_order((*known, *registry.suspected(tools))):
        if taking.WHOSE is not Whose.GUEST or answers:
            log.undo(taking, tools)
        elif guest is not None:
            log.leave(taking)
    if not log.is_rehearsal:
        for directory in tools.directories:
            temporary_files.tell_litter(directory, log.uuid)
