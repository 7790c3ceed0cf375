# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot recover``: undo what snapshots that died have left."""

from __future__ import annotations

import argparse
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import CinderAccess
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.cmd.shared import cloud
from nova_snapshot_driver.cmd.shared import output
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.conf import read_settings
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.recovery.account import Outcome
from nova_snapshot_driver.recovery.account import Step
from nova_snapshot_driver.recovery.healer import Healer
from nova_snapshot_driver.state import state_directory

TITLES = ('Domain', 'What', 'Result')


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        'recover',
        parents=[common],
        help='undo what snapshots that died have left on this host',
        description='Give all domains of this host back as they were before '
        'a snapshot whose process has died, and delete what the snapshot has '
        'left on this host and in the cloud. Running snapshots are left '
        'alone. The exit status is 1 if something could not be undone, or '
        'nobody could see whether it has to be.',
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='say what would be done, and touch nothing',
    )
    parser.set_defaults(run=run, overrides=lambda _arguments: [])


def run(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    _cancellation: Cancellation,
) -> int:
    outcomes = _outcomes(arguments, conf)
    if arguments.format == 'json':
        output.print_json([_to_dict(outcome) for outcome in outcomes])
    elif outcomes:
        done = 'to be done' if arguments.dry_run else 'done'
        output.print_table(
            TITLES,
            [
                _in_words(outcome, step, done)
                for outcome in outcomes
                for step in outcome.steps
            ],
        )
    else:
        output.print_line(
            'No snapshot that died has left anything on this host.'
        )
    return int(any(outcome.errors for outcome in outcomes))


def _outcomes(
    arguments: argparse.Namespace, conf: cfg.ConfigOpts
) -> list[Outcome]:
    # The directory is not created: it has to belong to the user of Nova.
    with state_directory.opened(conf.snapshot.state_directory):
        pass
    with Host.open(conf.libvirt.connection_uri) as host:
        healer = Healer(read_settings(conf).undo, host)
        if arguments.dry_run:
            return healer.rehearse()
        return healer.heal(_context(arguments, conf))


class _NoCloud:
    """A missing cloud: everything but what is in a cloud is undone."""

    def __init__(self, error: exception.NoCloud) -> None:
        self._error = exception.CloudUnavailable(reason=error.fields['reason'])

    def glance_access(self) -> GlanceAccess:
        raise self._error

    def cinder_access(self) -> CinderAccess:
        raise self._error

    def sees(self, _project: str | None) -> bool:
        raise self._error


def _context(arguments: argparse.Namespace, conf: cfg.ConfigOpts) -> Context:
    try:
        return cloud.of(arguments, conf)
    except exception.NoCloud as error:
        return _NoCloud(error)


def _to_dict(outcome: Outcome) -> dict[str, Any]:
    return {
        'domain': outcome.domain,
        'uuid': outcome.uuid,
        'recovered': not outcome.errors,
        'steps': [
            {
                'what': step.what,
                'error': None if step.error is None else step.error.to_dict(),
            }
            for step in outcome.steps
        ],
    }


def _in_words(outcome: Outcome, step: Step, done: str) -> list[str]:
    result = done if step.error is None else f'stays: {step.error}'
    return [outcome.domain or '-', step.what, result]
