# SPDX-License-Identifier: Apache-2.0
"""Undo what a dead snapshot left behind on a domain."""

from __future__ import annotations

import dataclasses

from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import events
from nova_snapshot_driver import exception
from nova_snapshot_driver.capture import backup
from nova_snapshot_driver.context import Context
from nova_snapshot_driver.events import Event
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.host import Host
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.journal import Journal
from nova_snapshot_driver.recovery import files
from nova_snapshot_driver.recovery import jobs
from nova_snapshot_driver.recovery.cloud import UnfinishedImage
from nova_snapshot_driver.recovery.taken_guest import TakenGuest
from nova_snapshot_driver.recovery.undoing import Outcome
from nova_snapshot_driver.recovery.undoing import Step
from nova_snapshot_driver.recovery.undoing import Undoing

__all__ = ['Outcome', 'Step']

LOG = logging.getLogger(__name__)


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
    undoing = Undoing(guest.uuid, guest.name, entry)
    _undo(undoing, guest, conf, context)
    undoing.settle(journal)
    return undoing.outcome()


def is_due(guest: Guest, conf: cfg.ConfigOpts) -> bool:
    """Whether it has a job of ours, as far as QEMU need not be asked.

    It may be that of a snapshot that is alive.
    """
    return jobs.has_any(guest, list(backup.directories(conf)))


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
        undoing = Undoing(uuid, name, entry and entry.given_back())
        _undo_beside(undoing, conf, context)
        undoing.settle(journal)
    return undoing.outcome()


def rehearse(
    host: Host,
    uuid: str,
    name: str,
    entry: Entry | None,
    conf: cfg.ConfigOpts,
) -> Outcome:
    """What would be undone of a snapshot that died. Nothing is touched."""
    undoing = Undoing(uuid, name, entry, is_rehearsal=True)
    try:
        guest = host.guest(uuid)
    except exception.DomainNotFound:
        # Its guest stopped while it was transient.
        if entry is not None and entry.persistent:
            undoing.undo(
                'have it defined', lambda: host.define(entry.definition)
            )
        _undo_beside(undoing, conf, None)
    else:
        _undo(undoing, guest, conf, None)
    return undoing.outcome()


def give_back(guest: Guest, entry: Entry, conf: cfg.ConfigOpts) -> None:
    """Undo what an entry says of the guest, unless it is undone already.

    :raises SnapshotError: something can't be undone
    """
    undoing = Undoing(guest.uuid, guest.name, entry)
    taken = TakenGuest(guest, entry, undoing, conf)
    taken.wake()
    taken.restore()
    undoing.outcome().check()


def _undo(
    undoing: Undoing,
    guest: Guest,
    conf: cfg.ConfigOpts,
    context: Context | None,
) -> None:
    """Whoever stands still comes first."""
    entry = undoing.entry
    taken = TakenGuest(guest, entry, undoing, conf) if entry else None
    if taken is not None:
        taken.wake()
    jobs_have_ended = jobs.end(
        guest,
        undoing,
        _directories(entry, conf),
        conf.snapshot.guest_timeout,
    )
    if taken is not None:
        taken.restore()
    _undo_beside(undoing, conf, context, jobs_have_ended)


def _undo_beside(
    undoing: Undoing,
    conf: cfg.ConfigOpts,
    context: Context | None,
    jobs_have_ended: bool = True,
) -> None:
    """What is left beside the guest: on this host, and in the cloud."""
    entry = undoing.entry
    # A job that still runs has them open.
    for directory in _directories(entry, conf) if jobs_have_ended else ():
        files.remove_temporary(undoing, directory)
    if entry is None:
        return
    if entry.draft is not None:
        files.remove_draft(undoing, entry.draft)
    UnfinishedImage(entry, undoing, conf, context).discard()


def _directories(entry: Entry | None, conf: cfg.ConfigOpts) -> list[str]:
    """Where its files are, or where those of others like it are."""
    own = entry.directories if entry is not None else ()
    return sorted({*own, *backup.directories(conf)})
