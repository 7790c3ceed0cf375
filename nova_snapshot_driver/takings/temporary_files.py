# SPDX-License-Identifier: Apache-2.0
"""The temporary files of a snapshot, among those of others.

The journal says where they are, and the owner of its directory may have
written that. Root, who may be at work there, removes nothing for it that is
somebody else's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
from collections.abc import Callable
from collections.abc import Iterable
from typing import Self

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import paths
from nova_snapshot_driver.common import private_files
from nova_snapshot_driver.common import reason
from nova_snapshot_driver.common.codec import FilePath
from nova_snapshot_driver.takings.jobs import BackupJob
from nova_snapshot_driver.takings.jobs import BlockJob
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.tools import UndoTools

LOG = logging.getLogger(__name__)

#: The name of a socket in a directory of its own.
SOCKET = 's'

#: How the name of such a directory begins, together with the UUID: as the
#: profile of AppArmor that libvirt has for the domain, so that a rule can give
#: each domain its own.
OWN = 'libvirt-'


@dataclasses.dataclass(frozen=True)
class TemporaryFiles(Taking):
    """
    :ivar directory: of all snapshots; whatever the configuration says by now
    """

    directory: FilePath

    KIND = 'temporary-files'
    WHOSE = Whose.HOST
    # A job that still runs has them open.
    AFTER = frozenset({BackupJob.KIND, BlockJob.KIND})

    @classmethod
    def suspected(cls, tools: UndoTools) -> Iterable[Self]:
        return [cls(FilePath(directory)) for directory in tools.configured]

    def describe(self) -> str:
        return f'remove its temporary files in {self.directory}'

    def state(self) -> str:
        return f'temporary files in {self.directory}'

    def is_due(self, tools: UndoTools) -> bool:
        """Whether a dead snapshot has left some.

        A directory that nobody may list does not stop the snapshots of a
        domain that has lost nothing: they need not list it.

        :raises UndoFailed: nobody can tell, and the journal names the
            directory
        """
        try:
            return bool(abandoned(self.directory, tools.uuid))
        except OSError as error:
            if self.directory in tools.named:
                raise exception.UndoFailed(
                    domain=tools.domain,
                    undo='see its temporary files',
                    reason=f'{self.directory}: {reason.of(error)}',
                    remedy='Run "nova-snapshot recover" as root, or let this '
                    'user list the directory.',
                ) from error
            LOG.warning(
                '%s cannot be listed (%s): what a snapshot of domain %s may '
                'have left there stays.',
                self.directory,
                reason.of(error),
                tools.domain,
            )
            return False

    def undo(self, tools: UndoTools) -> None:
        try:
            left = self._remove_abandoned(tools)
        except OSError as error:
            raise _stays(tools, self.directory, reason.of(error)) from error
        if left:
            raise _stays(tools, ', '.join(left), 'they are still there')

    def _remove_abandoned(self, tools: UndoTools) -> list[str]:
        """
        :returns: what can't be removed
        """
        with private_files.held(self.directory) as place:
            if self._is_for_us(os.stat(place).st_uid, tools):
                left = remove_abandoned(place, tools.uuid)
            else:
                left = abandoned(place, tools.uuid)
        return [
            os.path.join(self.directory, os.path.basename(path))
            for path in left
        ]

    def _is_for_us(self, owner: int, tools: UndoTools) -> bool:
        """Whether the directory is named by more than the journal.

        :param owner: of the directory
        """
        return self.directory in tools.configured or owner == tools.author()


def _stays(tools: UndoTools, what: str, why: str) -> exception.UndoFailed:
    return exception.UndoFailed(
        domain=tools.domain,
        undo='remove its temporary files',
        reason=why,
        remedy=f'Remove {what}.',
    )


def abandoned(root: str, uuid: str) -> list[str]:
    """The files that dead snapshots of a domain left, to be removed.

    :raises OSError: the directory can't be listed
    """
    return [
        *_workspaces(root, uuid),
        *(
            path
            for path in _socket_directories(root, uuid)
            if not _has_litter(path)
        ),
    ]


def remove_abandoned(root: str, uuid: str) -> list[str]:
    """Remove the files that dead snapshots of a domain left.

    :returns: what can't be removed
    :raises OSError: the directory can't be listed
    """
    for path in _workspaces(root, uuid):
        remove(path)
    for path in _socket_directories(root, uuid):
        if not _has_litter(path):
            remove_socket_directory(path)
    return _workspaces(root, uuid)


def tell_litter(root: str, uuid: str) -> None:
    """Tell what a QEMU has left in a directory that it was given.

    A guest that has got hold of its QEMU is not to have its snapshots stopped
    by it, nor anybody's time taken.
    """
    try:
        found = _socket_directories(root, uuid)
    except OSError:
        # The taking of such files has said so.
        return
    for path in found:
        if _has_litter(path):
            _complain(path, 'more is in it than a socket')


def remove(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    try:
        is_left = paths.is_there(path)
    except OSError:
        is_left = True
    if is_left:
        LOG.error('%s could not be removed and takes space', path)


def _workspaces(root: str, uuid: str) -> list[str]:
    return _named(root, lambda name: name.startswith(f'{uuid}-'))


def _socket_directories(root: str, uuid: str) -> list[str]:
    return _named(
        root,
        # Earlier versions named the directory of a socket in the second way.
        lambda name: name.startswith(f'{OWN}{uuid}.') or name == f'{uuid}.nbd',
    )


def _named(root: str, is_ours: Callable[[str], bool]) -> list[str]:
    """The paths in a directory by their names; none where it is missing.

    :raises OSError: the directory can't be listed
    """
    try:
        names = os.listdir(root)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [os.path.join(root, name) for name in names if is_ours(name)]


def _has_litter(path: str) -> bool:
    """Whether the directory of a socket has more in it, or is shut."""
    try:
        with os.scandir(path) as entries:
            return any(entry.name != SOCKET for entry in entries)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def remove_socket_directory(path: str) -> None:
    """Remove a directory with its socket, and go through nothing else.

    QEMU may have made there what takes for ever to be removed.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(path, SOCKET))
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        _complain(path, error.strerror or str(error))


def _complain(path: str, reason: str) -> None:
    """Say what an operator can do about what is in nobody's way."""
    with contextlib.suppress(FileNotFoundError):
        LOG.error(
            '%s is left behind (%s): the QEMU of a guest was given it and '
            'has it as the user %s. No snapshot needs it any more. Look at '
            'it, and remove it as root with "rm -r %s".',
            path,
            reason,
            os.lstat(path).st_uid,
            shlex.quote(path),
        )
