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
from typing import Any
from urllib import parse

from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver.guest import Guest

LOG = logging.getLogger(__name__)

COMMAND = (sys.executable, '-P', '-m', 'nova_snapshot_driver.watchdog')

#: What it has to know of the configuration, by group and option.
OPTIONS = (
    ('libvirt', 'snapshots_directory'),
    ('libvirt', 'rbd_user'),
    ('libvirt', 'images_rbd_ceph_conf'),
    ('snapshot', 'state_directory'),
    ('snapshot', 'scratch_directory'),
    ('snapshot', 'quiesce_timeout'),
    ('snapshot', 'guest_timeout'),
)

#: How long a process that was killed may take to be gone, in seconds.
REAP_TIMEOUT = 5


@contextlib.contextmanager
def kept(conf: cfg.ConfigOpts, guest: Guest) -> Iterator[None]:
    """Keep a watchdog, which knows from the journal what to give back.

    It is not waited for: what it has to know lies in its input before anything
    is taken from the guest, and its input ends no sooner than this process.
    """
    process = _start(conf, guest)
    try:
        yield
    finally:
        if process is not None:
            _end(process)


def _start(
    conf: cfg.ConfigOpts, guest: Guest
) -> subprocess.Popen[bytes] | None:
    uri = guest.connection_uri()
    if not _is_shared(uri):
        return None
    try:
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
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
        'options': _options(conf),
    }
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(job).encode() + b'\n')  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    return process


def _options(conf: cfg.ConfigOpts) -> list[tuple[str, str, Any]]:
    values = [
        (group, option, conf[group][option]) for group, option in OPTIONS
    ]
    return [value for value in values if value[2] is not None]


def _end(process: subprocess.Popen[bytes]) -> None:
    # Before its input ends.
    process.kill()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()  # type: ignore[union-attr]
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(REAP_TIMEOUT)


def _is_shared(uri: str) -> bool:
    """Whether another process finds the same guests there."""
    return parse.urlsplit(uri).path != '/embed'
