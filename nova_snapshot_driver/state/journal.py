# SPDX-License-Identifier: Apache-2.0
"""The journal of changes to the host, each on disk before it is made.

Each domain that is being snapshotted has a file, with what is needed to give
the domain back. The file holds the domain's secrets, and so has the mode 0600.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from collections.abc import Iterator

from oslo_concurrency import lockutils
from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.private_files import Directory
from nova_snapshot_driver.state import locks
from nova_snapshot_driver.state import state_directory
from nova_snapshot_driver.state import workspace
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.state_directory import Foreign
from nova_snapshot_driver.state.state_directory import Listing

LOG = logging.getLogger(__name__)


#: The size in bytes that no entry comes near to.
LARGEST = 16 << 20


#: How often somebody tries to claim a domain that another one has claimed, in
#: seconds.
CLAIM_INTERVAL = 0.02

#: The suffix in the name of an entry, after the UUID of its domain.
ENTRY = '.json'

#: The suffix of an entry that is set aside, before a number for another one.
ASIDE = '.unreadable'


class Keeping:
    """An entry that is being kept.

    :ivar afterwards: of the same domain, to be kept in its place once that
        has ended; None: nothing is
    """

    def __init__(self, afterwards: Entry | None) -> None:
        self.afterwards = afterwards


class Journal:
    """The journal of one host.

    :param directory: where it lies; made if it is missing, with mode 0700
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        try:
            workspace.make_directory(directory, 0o700)
            with Directory.open(self._directory):
                pass
        except OSError as error:
            raise state_directory.unusable(error, self._directory) from error

    @contextlib.contextmanager
    def exclusive(self, uuid: str, domain: str) -> Iterator[None]:
        """Be the only snapshot of a domain, in all processes of the host.

        The kernel lets go of the lock when the process dies, so whatever is
        found of an earlier snapshot while it is held is abandoned.

        :raises DomainBusy: there is another one
        """
        with contextlib.ExitStack() as held:
            directory = held.enter_context(
                self._locked(locks.lock_name(uuid), domain)
            )
            try:
                _forget_passing(directory, uuid)
                directory.remove_drafts(locks.lock_name(uuid))
            except OSError as error:
                raise state_directory.unusable(
                    error, self._directory
                ) from error
            yield

    @contextlib.contextmanager
    def claimed(
        self, uuid: str, domain: str, patience: float
    ) -> Iterator[bool]:
        """Define a domain inside, unless its owner has begun to destroy it.

        The owner waits until the context has ended, and the other way round.

        :param patience: the seconds after which they are waited for no longer
        :returns: whether the domain is to be there
        :raises DomainBusy: the owner, or another process, takes longer
        """
        with contextlib.ExitStack() as held:
            try:
                self._claim(held, uuid, domain, patience)
                entry = self.recall(uuid)
            except (exception.DirectoryUnusable, exception.StateUnreadable):
                # A domain too many is better than a domain too few.
                entry = None
            yield entry is None or not entry.is_given_back

    def forget_domain(self, uuid: str, patience: float) -> None:
        """Give nothing back to a domain any more: its owner destroys it.

        What its snapshots have made beside it is still undone.

        :param patience: the seconds after which a definition of the domain
            that is under way is waited for no longer
        """
        entry = self.recall(uuid)
        if entry is None:
            return
        with contextlib.ExitStack() as held:
            try:
                self._claim(held, uuid, entry.name, patience)
            except exception.DomainBusy:
                LOG.error(
                    'Domain %s is being defined for more than %s s while its '
                    'owner destroys it. If it stays, undefine it.',
                    entry.name,
                    patience,
                )
            entry = self.recall(uuid)
            if entry is not None:
                self.remember(entry.given_back())

    def _claim(
        self,
        held: contextlib.ExitStack,
        uuid: str,
        domain: str,
        patience: float,
    ) -> None:
        def is_claimed() -> bool:
            lock = self._locked(locks.claim_name(uuid), domain)
            try:
                held.enter_context(lock)
            except exception.DomainBusy:
                return False
            return True

        wait.until(
            is_claimed,
            patience,
            exception.DomainBusy(domain=domain),
            interval=CLAIM_INTERVAL,
        )

    @contextlib.contextmanager
    def _locked(self, name: str, domain: str) -> Iterator[Directory]:
        """Hold a lock of a domain, in all threads and processes of the host.

        :raises DomainBusy: another one holds it
        """
        with contextlib.ExitStack() as held:
            try:
                # The kernel's is one for all threads of a process.
                held.enter_context(
                    lockutils.lock(name, do_log=False, blocking=False)
                )
                directory = held.enter_context(Directory.open(self._directory))
                held.enter_context(directory.locked(name))
            except (BlockingIOError, lockutils.AcquireLockFailedException):
                raise exception.DomainBusy(domain=domain) from None
            except OSError as error:
                raise state_directory.unusable(
                    error, self._directory
                ) from error
            yield directory

    @contextlib.contextmanager
    def kept(
        self, entry: Entry, afterwards: Entry | None = None
    ) -> Iterator[Keeping]:
        """An entry that outlives a crash, and an undo that has failed.

        :param afterwards: of the same domain, to be kept in its place once
            the context has ended
        """
        keeping = Keeping(afterwards)
        try:
            self.remember(entry)
            yield keeping
        except (
            exception.UndoFailed,
            exception.ImageLeftBehind,
            exception.VolumeSnapshotsLeftBehind,
        ):
            raise
        except BaseException:
            self._settle(entry, keeping)
            raise
        self._settle(entry, keeping)

    def _settle(self, entry: Entry, keeping: Keeping) -> None:
        if keeping.afterwards is None:
            self.forget(entry.uuid)
        else:
            self.remember(keeping.afterwards)

    def remember(self, entry: Entry) -> None:
        """Have an entry on disk, synced, before the domain is touched."""
        try:
            with Directory.open(self._directory) as directory:
                directory.write(
                    _name(entry.uuid),
                    entry.to_json().encode(),
                    synced=True,
                )
        except OSError as error:
            raise state_directory.unusable(error, self._directory) from error

    def recall(self, uuid: str) -> Entry | None:
        """The entry that an abandoned snapshot of a domain left, if any.

        :raises StateUnreadable: nobody can tell
        """
        with state_directory.opened(self._directory) as directory:
            try:
                return self._load(directory, _name(uuid))
            except FileNotFoundError:
                return None
            except OSError as error:
                path = os.path.join(self._directory, _name(uuid))
                raise state_directory.unreadable(error, path) from error

    def find(self, domain: str) -> Entry | None:
        """The entry of a domain that is given by name or UUID, if any.

        :raises StateUnreadable: an entry that may be the domain's can't be
            read
        """
        entries = self.entries()
        for entry in entries.found:
            if domain in (entry.name, entry.uuid):
                return entry
        for error in entries.unreadable:
            uuid = state_directory.domain_of(error)
            if domain == uuid or not uuidutils.is_uuid_like(domain):
                raise error
        return None

    def entries(self) -> Listing[Entry]:
        """The entries of all domains, also of snapshots that are alive."""
        with state_directory.opened(self._directory) as directory:
            return _listing(
                self._directory,
                directory,
                lambda name: self._load(directory, name),
            )

    def forget(self, uuid: str) -> None:
        try:
            with Directory.open(self._directory) as directory:
                directory.remove(_name(uuid))
                directory.remove_drafts(_name(uuid))
        except OSError as error:
            raise state_directory.unusable(error, self._directory) from error

    def _load(self, directory: Directory, name: str) -> Entry | None:
        """
        :returns: None for a file that is no entry, and is set aside
        """
        try:
            return _load(directory, name)
        except Foreign as error:
            self._set_aside(directory, name, error)
            return None

    def _set_aside(
        self, directory: Directory, name: str, error: Foreign
    ) -> None:
        """Keep an unreadable file under a name on which nobody stumbles."""
        names = itertools.chain(
            [f'{name}{ASIDE}'],
            (f'{name}{ASIDE}.{number}' for number in itertools.count(2)),
        )
        aside = next(each for each in names if not directory.has(each))
        LOG.error(
            'The journal %s cannot be read and is set aside as %s: %s',
            os.path.join(self._directory, name),
            os.path.join(self._directory, aside),
            error,
        )
        directory.rename(name, aside)


def owner(directory: str) -> int:
    """The user whose the entries are, and may be the author of each.

    :param directory: ``[snapshot] state_directory``
    """
    with state_directory.opened(directory) as files:
        return files.owner


def abandoned(directory: str) -> Listing[Entry]:
    """The entries of snapshots that died. Nothing is touched.

    Not to be called in a process that takes snapshots: looking at a lock
    that the process holds would drop it.

    :param directory: ``[snapshot] state_directory``
    """
    with state_directory.opened(directory) as files:

        def load(name: str) -> Entry | None:
            entry = _load(files, name)
            return None if locks.is_locked(directory, entry.uuid) else entry

        return _listing(directory, files, load)


def _listing(
    directory: str, files: Directory, load: Callable[[str], Entry | None]
) -> Listing[Entry]:
    """The entries, and what is set aside because it could not be read."""
    names = state_directory.names(files, directory)
    entries = state_directory.listing(
        directory, [name for name in names if name.endswith(ENTRY)], load
    )
    aside = tuple(
        exception.StateUnreadable(
            path=os.path.join(directory, name),
            reason='it is no entry of the journal, and was set aside',
            option=state_directory.OPTION,
        )
        for name in state_directory.names(files, directory)
        if f'{ENTRY}{ASIDE}' in name
    )
    return Listing(entries.found, (*entries.unreadable, *aside))


def _load(directory: Directory, name: str) -> Entry:
    """
    :raises Foreign: it is no entry
    """
    content = state_directory.read(directory, name, LARGEST)
    with state_directory.understood():
        entry = Entry.from_json(content)
    if name != _name(entry.uuid):
        raise Foreign('it is of another domain')
    return entry


def _forget_passing(directory: Directory, uuid: str) -> None:
    for kind in (locks.STATUS, locks.CANCEL):
        directory.remove(locks.sidecar_path(uuid, kind))
        directory.remove_drafts(locks.sidecar_path(uuid, kind))


def _name(uuid: str) -> str:
    return f'{uuid}{ENTRY}'
