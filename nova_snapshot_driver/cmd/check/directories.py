# SPDX-License-Identifier: Apache-2.0
"""The directories of the driver, which a check does not create.

They have to belong to the user that nova-compute runs as, which creates them,
and the check may run as root.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import NotKnown
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.nova_user import ROOT
from nova_snapshot_driver.cmd.check.nova_user import NovaUser
from nova_snapshot_driver.cmd.check.paths import may_exist
from nova_snapshot_driver.common import private_files
from nova_snapshot_driver.snapshot.capture import backup
from nova_snapshot_driver.state.workspace import MIB
from nova_snapshot_driver.state.workspace import SNAPSHOTS_DIRECTORY
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.state.workspace import free_bytes


def existing(path: str) -> str:
    """The directory, or where it will be made: the nearest one above."""
    path = os.path.abspath(path)
    while not may_exist(path):
        path = os.path.dirname(path)
    return path


def state(path: str, user: NovaUser) -> str:
    """See that the user can have its state there.

    :raises DirectoryUnusable: it can't
    """
    option = '[snapshot] state_directory'
    user.see_in_reach(path)
    try:
        foreign = _foreign(path, user)
    except OSError as error:
        raise exception.DirectoryUnusable(
            directory=path, reason=error.strerror, option=option
        ) from error
    if foreign:
        command = shlex.join(['chown', '-R', f'{user.name}:', path])
        raise exception.DirectoryUnusable(
            directory=path,
            reason=f'{foreign} in it is not of {user.name}, who could not '
            f'open it; while no snapshot is being taken: {command}',
            option=option,
        )
    found = _see_usable(path, option, '0700', user)
    _see_nobody_else_writes(path, option, user)
    return found


def temporary(place: Place, user: NovaUser) -> str:
    """See that the user can have its temporary files there.

    :raises DirectoryUnusable: it can't
    """
    found = _see_usable(place.directory, place.option, '0711', user)
    nearest = existing(place.directory)
    with Workspace.open(nearest, 'check', place.option):
        return f'{found}, {free_bytes(nearest) // MIB} MiB free'


def socket_room(path: str, method: str) -> Iterator[Finding]:
    """The finding that a socket in the snapshots directory has no room.

    :param method: ``[snapshot] method``
    :returns: nothing where the path is short enough, or no method has a socket
    """
    length = len(os.fsencode(os.path.abspath(path)))
    if length <= backup.LONGEST_ROOT or method not in ('auto', 'backup'):
        return
    yield Finding(
        'Snapshots directory: length',
        Verdict.WARNING if method == 'auto' else Verdict.FAILURE,
        f'The path has {length} bytes, and more than {backup.LONGEST_ROOT} '
        'leave no room for the socket of a backup job: each is refused, and '
        'another method taken if [snapshot] method is auto. Set '
        f'{SNAPSHOTS_DIRECTORY} to a shorter one.',
    )


def metrics(path: str, user: NovaUser) -> str:
    """See that nova-compute can write its metrics there.

    :param path: of the file
    :raises DirectoryUnusable: the directory can't be written, or others may
        write to it
    """
    directory = os.path.dirname(os.path.abspath(path))
    if existing(directory) != directory:
        raise exception.DirectoryUnusable(
            directory=directory,
            reason='it is not there, and nova-compute does not make it',
            option='[snapshot] metrics_file',
        )
    _see_usable(directory, '[snapshot] metrics_file', '0755', user)
    _see_nobody_else_writes(directory, '[snapshot] metrics_file', user)
    return path


def _see_nobody_else_writes(path: str, option: str, user: NovaUser) -> None:
    """See that the user will find nothing there that others have put there."""
    if not os.path.isdir(path):
        return
    try:
        private_files.see_nobody_else_writes(path, os.stat(path), user.uid)
    except OSError as error:
        raise exception.DirectoryUnusable(
            directory=path, reason=error.strerror, option=option
        ) from error


def _foreign(path: str, user: NovaUser) -> str | None:
    """A file that somebody else has left, such as the lock of a domain."""
    if user.uid == ROOT or not os.path.isdir(path):
        return None
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.stat(follow_symlinks=False).st_uid != user.uid:
                return entry.name
    return None


def _see_usable(path: str, option: str, mode: str, user: NovaUser) -> str:
    place = existing(path)
    is_there = place == os.path.abspath(path)
    try:
        is_directory = stat.S_ISDIR(os.stat(place).st_mode)
    except FileNotFoundError:
        # A link that leads to nowhere.
        is_directory = False
    except OSError as error:
        raise NotKnown(
            f'{place} cannot be looked at ({error.strerror}). Run this '
            f'command as {user.name}, or as root.'
        ) from error
    if not is_directory:
        raise exception.DirectoryUnusable(
            directory=path, reason=f'{place} is no directory', option=option
        )
    if not user.may_write(place):
        command = (
            ['chown', f'{user.name}:', path]
            if is_there
            else ['install', '-d', '-o', user.name, '-m', mode, path]
        )
        raise exception.DirectoryUnusable(
            directory=path,
            reason=f'{place} cannot be written by {user.name}; as root: '
            f'{shlex.join(command)}',
            option=option,
        )
    return path if is_there else f'{path}, which is yet to be made in {place}'
