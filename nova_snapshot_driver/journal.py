# SPDX-License-Identifier: Apache-2.0
"""What was done to the host, on disk before it is done.

One file for each domain that is transient because of a snapshot, with what is
needed to define it again. It holds the domain's secrets, and so has the mode
0600.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import os
from collections.abc import Iterator

from oslo_concurrency import lockutils
from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.guest import Definition

LOG = logging.getLogger(__name__)

VERSION = 1


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
            except lockutils.AcquireLockFailedException:
                raise exception.DomainBusy(domain=domain) from None
            except OSError as error:
                raise self._unusable(error) from error
            yield

    def remember(self, definition: Definition) -> None:
        """Have a definition on disk, synced, before the domain loses it."""
        entry = {'version': VERSION, **dataclasses.asdict(definition)}
        draft = self._draft(definition.uuid)
        try:
            with open(draft, 'w', encoding='utf-8', opener=_private) as file:
                json.dump(entry, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self._path(definition.uuid))
            self._sync_directory()
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise self._unusable(error) from error

    def recall(self, uuid: str) -> Definition | None:
        """The definition that an abandoned snapshot left, if any."""
        return self._read(self._path(uuid))

    def find(self, domain: str) -> Definition | None:
        """The same, for a domain whose name or UUID is known."""
        for path in glob.glob(
            os.path.join(glob.escape(self._directory), '*.json')
        ):
            definition = self._read(path)
            if definition and domain in (definition.name, definition.uuid):
                return definition
        return None

    def forget(self, uuid: str) -> None:
        for path in (self._path(uuid), self._draft(uuid)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _read(self, path: str) -> Definition | None:
        try:
            with open(path, encoding='utf-8') as file:
                entry = json.load(file)
            if entry.pop('version') != VERSION:
                raise ValueError('it is of another version')
            return Definition(**entry)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            LOG.error(
                'The journal %s cannot be read and is set aside as '
                '%s.unreadable: %s',
                path,
                path,
                error,
            )
            os.replace(path, f'{path}.unreadable')
            return None

    def _unusable(self, error: OSError) -> exception.DirectoryUnusable:
        return exception.DirectoryUnusable(
            directory=self._directory,
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


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
