# SPDX-License-Identifier: Apache-2.0
"""The one directory in which everything of the lab lives."""

import os
from pathlib import Path

from tests.lab.errors import LabError

VARIABLE = 'NOVA_SNAPSHOT_LAB'

# sizeof(sockaddr_un.sun_path) is 108, the last byte is the terminator.
_LONGEST_SOCKET_PATH = 107


def lab_directory() -> Path:
    """Return the lab's directory: $NOVA_SNAPSHOT_LAB or ``.lab`` beside tests.

    It is created with its parents if it is missing.
    """
    default = Path(__file__).resolve().parents[2] / '.lab'
    path = Path(os.environ.get(VARIABLE) or default).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


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
