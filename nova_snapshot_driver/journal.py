# SPDX-License-Identifier: Apache-2.0
"""What was done to the host, on disk before it is done.

One file for each domain that is being snapshotted, with what is needed to give
it back. It holds the domain's secrets, and so has the mode 0600.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import glob
import json
import os
import struct
from collections.abc import Iterator

from oslo_concurrency import lockutils
from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.domain import HostDevice
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.guest import Definition
from nova_snapshot_driver.rbd import Clone

LOG = logging.getLogger(__name__)

VERSION = 1

#: What lies beside an entry and means nothing without the lock of its domain:
#: how far the snapshot has come, and that somebody wants it to stop.
STATUS = 'status'
CANCEL = 'cancel'


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a snapshot may take from a domain.

    :ivar definition: of the domain, as it was found
    :ivar persistent: the domain is to have that definition
    :ivar power_state: in which a guest is to be that is saved and stopped;
        None where it is left running
    :ivar devices: of the host, that are detached
    :ivar frozen: the file systems are frozen
    :ivar image: that is being made in Glance, and not complete yet
    :ivar volumes: the ids of those in Cinder that may have snapshots which
        are made for that image
    :ivar paused: the vCPUs of a guest are stopped that was found running
    :ivar clone: what is being made of it in Ceph, and the snapshot of the disk
        for that
    """

    definition: Definition
    persistent: bool = True
    power_state: PowerState | None = None
    devices: tuple[HostDevice, ...] = ()
    frozen: bool = False
    image: str | None = None
    volumes: tuple[str, ...] = ()
    paused: bool = False
    clone: Clone | None = None

    @property
    def is_given_back(self) -> bool:
        """Nothing is taken from the domain (any more)."""
        return self == self.given_back()

    def given_back(self) -> Entry:
        """What is left of it when the domain has all that was taken."""
        return Entry(
            # Nothing is to be defined from it, and there are secrets in it.
            dataclasses.replace(self.definition, xml=''),
            persistent=False,
            image=self.image,
            volumes=self.volumes,
            clone=self.clone,
        )

    def to_json(self) -> str:
        fields = dataclasses.asdict(self)
        if self.power_state is not None:
            fields['power_state'] = self.power_state.value
        return json.dumps({'version': VERSION, **fields}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Entry:
        """
        :raises ValueError, TypeError, KeyError, AttributeError,
            RecursionError: it is no entry
        """
        fields = json.loads(text)
        if fields.pop('version') != VERSION:
            raise ValueError('it is of another version')
        definition = Definition(**fields.pop('definition'))
        state = fields.pop('power_state')
        devices = fields.pop('devices')
        # Older ones have none.
        volumes = fields.pop('volumes', ())
        # An older version has none.
        clone = fields.pop('clone', None)
        return cls(
            definition,
            clone=None if clone is None else Clone.from_dict(clone),
            power_state=None if state is None else PowerState(state),
            devices=tuple(HostDevice(**device) for device in devices),
            volumes=tuple(volumes),
            **fields,
        )


class Journal:
    """The journal of one host.

    :param directory: where it lies; made if it is missing, with mode 0700
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    @contextlib.contextmanager
    def exclusive(self, uuid: str, domain: str) -> Iterator[None]:
        """Be the only snapshot of a domain, in all processes of the host.

        The kernel lets go of the lock when the process dies, so whatever is
        found of an earlier snapshot while it is held is abandoned.

        :raises DomainBusy: there is another one
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(
                    lockutils.lock(
                        f'{uuid}.lock',
                        external=True,
                        lock_path=self._directory,
                        do_log=False,
                        blocking=False,
                    )
                )
                self._forget_passing(uuid)
            except lockutils.AcquireLockFailedException:
                raise exception.DomainBusy(domain=domain) from None
            except OSError as error:
                raise self._unusable(error) from error
            yield

    @contextlib.contextmanager
    def kept(
        self, entry: Entry, afterwards: Entry | None = None
    ) -> Iterator[None]:
        """An entry that outlives a crash, and an undo that has failed.

        :param afterwards: of the same domain, to be kept in its place once
            the context has ended
        """
        try:
            self.remember(entry)
            yield
        except (
            exception.NotGivenBack,
            exception.ImageLeftBehind,
            exception.VolumeSnapshotsLeftBehind,
        ):
            raise
        except BaseException:
            self._settle(entry, afterwards)
            raise
        self._settle(entry, afterwards)

    def _settle(self, entry: Entry, afterwards: Entry | None) -> None:
        if afterwards is None:
            self.forget(entry.definition.uuid)
        else:
            self.remember(afterwards)

    def remember(self, entry: Entry) -> None:
        """Have an entry on disk, synced, before the domain is touched."""
        uuid = entry.definition.uuid
        draft = self._draft(uuid)
        try:
            with open(draft, 'w', encoding='utf-8', opener=private) as file:
                file.write(entry.to_json())
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self._path(uuid))
            self._sync_directory()
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise self._unusable(error) from error

    def recall(self, uuid: str) -> Entry | None:
        """What an abandoned snapshot left of a domain, if anything."""
        return self._read(self._path(uuid))

    def find(self, domain: str) -> Entry | None:
        """The same, for a domain whose name or UUID is known."""
        for entry in self.entries():
            if domain in (entry.definition.name, entry.definition.uuid):
                return entry
        return None

    def entries(self) -> Iterator[Entry]:
        """Those of all domains, also of snapshots that are still alive."""
        for path in glob.glob(
            os.path.join(glob.escape(self._directory), '*.json')
        ):
            try:
                entry = self._read(path)
            except exception.DirectoryUnusable as error:
                # The other domains are not to suffer from it.
                LOG.error('%s', error)
                continue
            if entry is not None:
                yield entry

    def forget(self, uuid: str) -> None:
        for path in (self._path(uuid), self._draft(uuid)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _forget_passing(self, uuid: str) -> None:
        for kind in (STATUS, f'{STATUS}.draft', CANCEL):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(passing(self._directory, uuid, kind))

    def _read(self, path: str) -> Entry | None:
        try:
            with open(path, encoding='utf-8') as file:
                return Entry.from_json(file.read())
        except FileNotFoundError:
            return None
        except (
            ValueError,
            TypeError,
            AttributeError,
            KeyError,
            RecursionError,
        ) as error:
            LOG.error(
                'The journal %s cannot be read and is set aside as '
                '%s.unreadable: %s',
                path,
                path,
                error,
            )
            os.replace(path, f'{path}.unreadable')
            return None
        except OSError as error:
            raise self._unusable(error, path) from error

    def _unusable(
        self, error: OSError, path: str | None = None
    ) -> exception.DirectoryUnusable:
        return exception.DirectoryUnusable(
            directory=path or self._directory,
            reason=error.strerror,
            option='[snapshot] state_directory',
        )

    def _draft(self, uuid: str) -> str:
        return f'{self._path(uuid)}.draft'

    def _path(self, uuid: str) -> str:
        return os.path.join(self._directory, f'{uuid}.json')

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def private(path: str, flags: int) -> int:
    """An opener of files that are the driver's own."""
    return os.open(path, flags, 0o600)


def passing(directory: str, uuid: str, kind: str) -> str:
    """The path of what means nothing without the lock of a domain.

    :param kind: ``STATUS`` or ``CANCEL``
    """
    return os.path.join(directory, f'{uuid}.{kind}')


def is_locked(directory: str, uuid: str) -> bool:
    """Whether a snapshot of a domain is alive in another process.

    It is looked at, not tried: a snapshot that begins meanwhile is not to
    find its domain busy. Not to be asked in a process that takes snapshots,
    whose own locks the kernel would drop with the file that is closed here.

    :raises OSError: there is no telling
    """
    # A struct flock: type, whence, start, length and process.
    anything = struct.pack('hhqqi', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with open(os.path.join(directory, f'{uuid}.lock'), 'rb') as file:
            found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, anything)
    except FileNotFoundError:
        return False
    return bool(struct.unpack('hhqqi', found)[0] != fcntl.F_UNLCK)
