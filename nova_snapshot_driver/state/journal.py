# SPDX-License-Identifier: Apache-2.0
"""The journal of changes to the host, each on disk before it is made.

Each domain that is being snapshotted has a file, with what is needed to give
the domain back. The file holds the domain's secrets, and so has the mode 0600.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator

from oslo_concurrency import lockutils
from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.private_files import Directory
from nova_snapshot_driver.common.private_files import NoFile
from nova_snapshot_driver.state import locks
from nova_snapshot_driver.state import workspace
from nova_snapshot_driver.state.entry import Entry

LOG = logging.getLogger(__name__)


#: The size in bytes that no entry comes near to.
LARGEST = 16 << 20


#: How often somebody tries to claim a domain that another one has claimed, in
#: seconds.
CLAIM_INTERVAL = 0.02

#: The suffix in the name of an entry, after the UUID of its domain.
ENTRY = '.json'


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
            raise unusable(error, self._directory) from error

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
                raise unusable(error, self._directory) from error
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
            except exception.DirectoryUnusable:
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
                raise unusable(error, self._directory) from error
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
            raise unusable(error, self._directory) from error

    def recall(self, uuid: str) -> Entry | None:
        """The entry that an abandoned snapshot of a domain left, if any."""
        return self._read(_name(uuid))

    def find(self, domain: str) -> Entry | None:
        """The entry of a domain that is given by name or UUID, if any."""
        for entry in self.entries():
            if domain in (entry.name, entry.uuid):
                return entry
        return None

    def entries(self) -> Iterator[Entry]:
        """The entries of all domains, also of snapshots that are alive."""
        for name in self._names():
            try:
                entry = self._read(name)
            except exception.DirectoryUnusable as error:
                # An unusable entry is not to hide those of other domains.
                LOG.error('%s', error)
                continue
            if entry is not None:
                yield entry

    def forget(self, uuid: str) -> None:
        try:
            with Directory.open(self._directory) as directory:
                directory.remove(_name(uuid))
                directory.remove_drafts(_name(uuid))
        except OSError as error:
            raise unusable(error, self._directory) from error

    def _names(self) -> list[str]:
        try:
            with Directory.open(self._directory) as directory:
                return _names(directory)
        except OSError as error:
            raise unusable(error, self._directory) from error

    def _read(self, name: str) -> Entry | None:
        try:
            with Directory.open(self._directory) as directory:
                try:
                    return _load(directory, name)
                except _Foreign as error:
                    self._set_aside(directory, name, error)
                    return None
        except FileNotFoundError:
            return None
        except OSError as error:
            path = os.path.join(self._directory, name)
            raise unusable(error, path) from error

    def _set_aside(
        self, directory: Directory, name: str, error: _Foreign
    ) -> None:
        """Keep an unreadable file under a name on which nobody stumbles."""
        names = itertools.chain(
            [f'{name}.unreadable'],
            (f'{name}.unreadable.{number}' for number in itertools.count(2)),
        )
        aside = next(each for each in names if not directory.has(each))
        LOG.error(
            'The journal %s cannot be read and is set aside as %s: %s',
            os.path.join(self._directory, name),
            os.path.join(self._directory, aside),
            error,
        )
        directory.rename(name, aside)


@contextlib.contextmanager
def opened(directory: str) -> Iterator[Directory]:
    """The directory of it all.

    :param directory: ``[snapshot] state_directory``
    :raises DirectoryUnusable: it can't be opened, or others write to it
    """
    with contextlib.ExitStack() as stack:
        try:
            files = stack.enter_context(Directory.open(directory))
        except OSError as error:
            raise unusable(error, directory) from error
        yield files


def owner(directory: str) -> int:
    """The user whose the entries are, and may be the author of each.

    :raises DirectoryUnusable: it can't be opened, or others write to it
    """
    with opened(directory) as files:
        return files.owner


def unusable(error: OSError, path: str) -> exception.DirectoryUnusable:
    """The error of the driver for one of a file of the journal."""
    return exception.DirectoryUnusable(
        directory=path,
        reason=error.strerror,
        option='[snapshot] state_directory',
    )


def abandoned(directory: str) -> list[Entry]:
    """The entries of snapshots that died. Nothing is touched.

    Not to be called in a process that takes snapshots: looking at a lock
    that the process holds would drop it.

    :param directory: ``[snapshot] state_directory``
    """
    if not os.path.isdir(directory):
        return []
    found = []
    with opened(directory) as files:
        for name in _names(files):
            try:
                entry = _load(files, name)
                if not locks.is_locked(directory, entry.uuid):
                    found.append(entry)
            except FileNotFoundError:
                # The snapshot has ended meanwhile.
                continue
            except (_Foreign, OSError) as error:
                LOG.error(
                    'The journal %s cannot be read: %s',
                    os.path.join(directory, name),
                    error,
                )
    return found


class _Foreign(Exception):
    """A file that has the name of an entry is none."""


def _names(directory: Directory) -> list[str]:
    return [name for name in directory.names() if name.endswith(ENTRY)]


def _load(directory: Directory, name: str) -> Entry:
    """
    :raises _Foreign: it is no entry
    """
    try:
        content = directory.read(name, LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError('it is too large')
        entry = Entry.from_json(content.decode())
    except NoFile as error:
        raise _Foreign(error.strerror) from error
    except (
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        RecursionError,
    ) as error:
        raise _Foreign(str(error)) from error
    if name != _name(entry.uuid):
        raise _Foreign('it is of another domain')
    return entry


def _forget_passing(directory: Directory, uuid: str) -> None:
    for kind in (locks.STATUS, locks.CANCEL):
        directory.remove(locks.sidecar_path(uuid, kind))
        directory.remove_drafts(locks.sidecar_path(uuid, kind))


def _name(uuid: str) -> str:
    return f'{uuid}{ENTRY}'
