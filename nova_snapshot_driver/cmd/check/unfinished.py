# SPDX-License-Identifier: Apache-2.0
"""Snapshots that have not ended: those that run, and those that died.

The names in the state directory tell. An entry that nobody can read counts as
one of a snapshot that died: nobody can say that it holds nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.common import private_files
from nova_snapshot_driver.state import journal
from nova_snapshot_driver.state import locks
from nova_snapshot_driver.state import state_directory

RUNNING = 'Snapshots'
DEAD = 'Dead snapshots'


def findings(directory: str) -> Iterator[Finding]:
    """Whether a snapshot of this host has still something to give back.

    :param directory: ``[snapshot] state_directory``
    """
    try:
        running, dead = _in(directory)
    except exception.StateDirectoryMissing:
        yield Finding(
            RUNNING,
            Verdict.SUCCESS,
            f'there is no {directory}: none was taken with this configuration',
        )
        return
    except (
        OSError,
        exception.DirectoryUnusable,
        exception.StateUnreadable,
    ) as error:
        yield Finding(
            RUNNING,
            Verdict.FAILURE,
            f'{NOT_KNOWN} whether snapshots run or have died. {error} Run '
            'this command as the user that nova-compute runs as, or as root.',
        )
        return
    yield _running(directory, running)
    yield _dead(directory, dead)


def _in(directory: str) -> tuple[list[str], list[str]]:
    """The domains with a snapshot that runs, and the files of dead ones.

    :raises StateDirectoryMissing: there is no such directory
    :raises OSError, DirectoryUnusable, StateUnreadable: nobody can tell
    """
    with state_directory.opened(directory) as files:
        names = state_directory.names(files, directory)
        running = {
            name.removesuffix(locks.lock_name(''))
            for name in names
            if name.endswith(locks.lock_name(''))
            and not name.endswith(locks.claim_name(''))
            and files.is_locked(name)
        }
    dead = [
        os.path.join(directory, name)
        for name in names
        # A file that was set aside has more behind that suffix.
        if journal.ENTRY in name
        and not name.endswith(private_files.DRAFT)
        and name.split('.')[0] not in running
    ]
    return sorted(running), dead


def _running(directory: str, domains: list[str]) -> Finding:
    if not domains:
        return Finding(
            RUNNING, Verdict.SUCCESS, f'none runs, according to {directory}'
        )
    return Finding(
        RUNNING,
        Verdict.FAILURE,
        f'Snapshots of these domains run: {", ".join(domains)}. Their '
        'processes start from the installed files. Wait for them '
        '("nova-snapshot status --watch"), or end each with "nova-snapshot '
        'cancel".',
    )


def _dead(directory: str, paths: list[str]) -> Finding:
    if not paths:
        return Finding(
            DEAD, Verdict.SUCCESS, f'none has an entry in {directory}'
        )
    return Finding(
        DEAD,
        Verdict.FAILURE,
        'Snapshots that died have something left to be undone, which no '
        f'other driver does: {", ".join(paths)}. Restart nova-compute with '
        'this driver, or run "nova-snapshot recover". Look into a file that '
        'stays, and move it away.',
    )
