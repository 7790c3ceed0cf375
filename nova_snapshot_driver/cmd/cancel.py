# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot cancel``: stop a snapshot that runs on this host."""

from __future__ import annotations

import argparse
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.shared import output
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.wait import Limit
from nova_snapshot_driver.state import locks
from nova_snapshot_driver.state import status
from nova_snapshot_driver.state.cancel_request import CancelRequest
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.state.status import Status

POLL_INTERVAL = 0.2


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        'cancel',
        parents=[common],
        help='stop the snapshot of a domain that runs on this host',
        description='Stop the snapshot of a domain that runs on this host, '
        'whether nova-compute takes it or a command, and wait until it has '
        'given everything back.',
    )
    parser.add_argument('domain', metavar='DOMAIN', help='its name or UUID')
    parser.set_defaults(run=run, overrides=lambda _arguments: [])


def run(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    cancellation: Cancellation,
) -> int:
    directory = conf.snapshot.state_directory
    snapshot = _find(directory, arguments.domain)
    request = CancelRequest(directory, snapshot.uuid)
    request.make()
    limit = Limit(conf.snapshot.cancel_timeout, 'cancel_timeout')
    _wait(directory, snapshot, limit, cancellation)
    if request.is_open():
        request.withdraw()
        raise exception.SnapshotNotFound(
            domain=arguments.domain,
            reason='it ended by itself before it heard of this',
        )
    given_back = Journal(directory).recall(snapshot.uuid) is None
    if arguments.format == 'json':
        output.print_json(_result(snapshot) | {'given_back': given_back})
    else:
        output.print_record(_in_words(snapshot, given_back))
    return 0 if given_back else 1


def _find(directory: str, domain: str) -> Status:
    running = status.running(directory)
    for snapshot in running.found:
        if domain in (snapshot.domain, snapshot.uuid):
            return snapshot
    if running.unreadable:
        raise running.unreadable[0]
    raise exception.SnapshotNotFound(domain=domain, reason='none is running')


def _wait(
    directory: str,
    snapshot: Status,
    limit: Limit,
    cancellation: Cancellation,
) -> None:
    """Wait until a snapshot is over.

    :raises HypervisorTimeout: it has not given everything back in time
    """
    wait.until(
        lambda: not locks.is_locked(directory, snapshot.uuid),
        limit.seconds,
        exception.HypervisorTimeout(
            domain=snapshot.domain,
            operation='the end of the snapshot that is cancelled',
            seconds=limit.seconds,
            bound=limit.bound,
        ),
        interval=POLL_INTERVAL,
        cancellation=cancellation,
    )


def _result(snapshot: Status) -> dict[str, Any]:
    fields = snapshot.to_dict()
    return {name: fields[name] for name in ('domain', 'uuid', 'image', 'file')}


def _in_words(snapshot: Status, given_back: bool) -> dict[str, str]:
    where = (
        {'Image': ', '.join(snapshot.images)}
        if snapshot.images
        else {'File': ', '.join(snapshot.files)}
    )
    return {
        'Domain': snapshot.domain,
        **where,
        'Snapshot': 'cancelled',
        'Given back': 'everything'
        if given_back
        else f'not everything: the log of process {snapshot.pid} says what',
    }
