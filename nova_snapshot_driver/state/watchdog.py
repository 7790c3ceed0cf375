# SPDX-License-Identifier: Apache-2.0
"""A watchdog beside a snapshot, for the case that this process dies.

It is a process of its own, which does nothing but wait for the end of its
input. It is killed when the guest has been given back; if its input ends while
it lives, whoever has started it is dead, and it gives the guest back.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from urllib import parse

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import children
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.takings.tools import UndoSettings

LOG = logging.getLogger(__name__)

COMMAND = (sys.executable, '-P', '-m', 'nova_snapshot_driver.recovery')

#: How long a process that was killed may take to be gone, in seconds.
REAP_TIMEOUT = 5


@contextlib.contextmanager
def kept(settings: UndoSettings, guest: Guest) -> Iterator[None]:
    """Keep a watchdog, which knows from the journal what to give back.

    The watchdog is not waited for: what it has to know lies in its input
    before anything is taken from the guest, and its input ends no sooner than
    this process.
    """
    process = _start(
        settings, guest, 'its snapshot has ended, and has not given it back'
    )
    try:
        yield
    except exception.UndoFailed:
        # The watchdog tries on when this process does not any more.
        if process is not None:
            _leave(process)
        raise
    except BaseException:
        if process is not None:
            _end(process)
        raise
    if process is not None:
        _end(process)


def rescue(settings: UndoSettings, guest: Guest) -> None:
    """Have a watchdog give a guest back at once.

    Its snapshot is complete, and is not to wait for that; nor is this
    process, which may end meanwhile. Where no other process can be started or
    finds the guest, the next snapshot of it gives it back.
    """
    try:
        process = _start(
            settings,
            guest,
            'its snapshot is complete and has left something to undo',
        )
    except exception.SnapshotError as error:
        LOG.warning('Domain %s has no watchdog: %s', guest.name, error)
        return
    if process is not None:
        _leave(process)


def _start(
    settings: UndoSettings, guest: Guest, reason: str
) -> subprocess.Popen[bytes] | None:
    """
    :param reason: why it has something to do once it has, for the log
    """
    uri = guest.connection_uri()
    if not _is_shared(uri):
        return None
    children.log_start(COMMAND)
    try:
        process = subprocess.Popen(  # noqa: S603 (a program of ours)
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=children.environment(),
            # No signal for the group of this process is meant for it.
            start_new_session=True,
        )
    except OSError as error:
        LOG.warning(
            'Domain %s has no watchdog: %s. If this process dies, the next '
            'start of nova-compute gives it back.',
            guest.name,
            error,
        )
        return None
    job = {
        'uri': uri,
        'domain': guest.name,
        'uuid': guest.uuid,
        'settings': settings.to_dict(),
        'reason': reason,
    }
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(job).encode() + b'\n')  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    return process


def _leave(process: subprocess.Popen[bytes]) -> None:
    """Have a watchdog give the guest back beside this process, or after it."""
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(b'left\n')  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]


def _end(process: subprocess.Popen[bytes]) -> None:
    # Kill first: the end of its input would set the watchdog to work.
    process.kill()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()  # type: ignore[union-attr]
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(REAP_TIMEOUT)


def _is_shared(uri: str) -> bool:
    """Whether another process finds the same guests there."""
    return parse.urlsplit(uri).path != '/embed'
