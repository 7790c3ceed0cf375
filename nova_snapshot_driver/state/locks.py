# SPDX-License-Identifier: Apache-2.0
"""The locks of domains, and the files that mean nothing without one."""

from __future__ import annotations

import os

from nova_snapshot_driver.state import state_directory

#: The kinds of files beside an entry that mean nothing without the lock of its
#: domain: how far the snapshot has come, and that somebody wants it to stop.
STATUS = 'status'


CANCEL = 'cancel'


def lock_name(uuid: str) -> str:
    return f'{uuid}.lock'


def claim_name(uuid: str) -> str:
    """The lock of those who decide whether a domain is to be there at all."""
    return f'{uuid}.claim.lock'


def sidecar_path(uuid: str, kind: str) -> str:
    """The name of a file that means nothing without the lock of a domain.

    :param kind: ``STATUS`` or ``CANCEL``
    """
    return f'{uuid}.{kind}'


def is_locked(directory: str, uuid: str) -> bool:
    """Whether a snapshot of a domain is alive in another process.

    The lock is looked at, not tried: a snapshot that begins meanwhile is not
    to find its domain busy. Not to be called in a process that takes
    snapshots, whose own locks the kernel would drop with the file that is
    closed here.

    :raises StateUnreadable: there is no telling
    """
    with state_directory.opened(directory) as files:
        try:
            return files.is_locked(lock_name(uuid))
        except OSError as error:
            path = os.path.join(directory, lock_name(uuid))
            raise state_directory.unreadable(error, path) from error
