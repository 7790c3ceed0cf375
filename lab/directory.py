# SPDX-License-Identifier: Apache-2.0
"""The one directory in which everything of the lab lives."""

import contextlib
import hashlib
import os
from pathlib import Path

from lab.errors import LabError

VARIABLE = 'NOVA_SNAPSHOT_LAB'

# sizeof(sockaddr_un.sun_path) is 108, the last byte is the terminator.
_LONGEST_SOCKET_PATH = 107


# The lab's own directory has the rest of that. The longest name below it is
# that of a backup job's socket in the cloud:
# /cloud/var/nova/instances/snapshots/libvirt-UUID.XXXXXXXX/s
_LONGEST_LAB_PATH = 16


def lab_directory() -> Path:
    """Return the lab's directory: $NOVA_SNAPSHOT_LAB or ``.lab`` beside tests.

    It is created with its parents if it is missing. Where its path is too
    long for the sockets below it, it is reached by a link in ``/tmp``.

    :raises LabError: there is something else in the place of the link
    """
    default = Path(__file__).resolve().parents[1] / '.lab'
    path = Path(os.environ.get(VARIABLE) or default).absolute()
    path.mkdir(parents=True, exist_ok=True)
    if len(os.fsencode(path)) <= _LONGEST_LAB_PATH:
        return path
    link = _short_cut(path)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(path)
    is_ours = link.is_symlink() and link.lstat().st_uid == os.geteuid()
    if not is_ours or link.readlink() != path:
        raise LabError(
            f'{link} is in the way of a link to {path}: remove it, or choose '
            f'a shorter directory with the environment variable {VARIABLE}'
        )
    return link


def remove_short_cut() -> None:
    """Remove the link in ``/tmp``, if there is one."""
    directory = lab_directory()
    if directory.is_symlink():
        directory.unlink()


def _short_cut(path: Path) -> Path:
    name = hashlib.sha256(f'{os.geteuid()} {path}'.encode()).hexdigest()
    return Path('/tmp') / f'nsl-{name[:6]}'


def cache_directory() -> Path:
    """Return the directory of what is expensive to build and safe to share."""
    path = lab_directory() / 'cache'
    path.mkdir(exist_ok=True)
    return path


def check_socket_path(path: Path) -> Path:
    """Return *path* if a Unix socket can be bound there.

    :raises LabError: the path is longer than the kernel accepts
    """
    length = len(os.fsencode(path))
    if length > _LONGEST_SOCKET_PATH:
        raise LabError(
            f'the path of the socket {path} has {length} bytes, the kernel '
            f'accepts {_LONGEST_SOCKET_PATH}: choose a shorter directory '
            f'with the environment variable {VARIABLE}'
        )
    return path
