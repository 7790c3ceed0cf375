# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot status``: the snapshots that run on this host."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver import status
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.cmd import output
from nova_snapshot_driver.progress import IN_BYTES
from nova_snapshot_driver.status import Status
from nova_snapshot_driver.workspace import MIB

#: The rest would not fit into a terminal.
TITLES = ('Domain', 'Path', 'Step', 'Done', 'Speed', 'Left')


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        'status',
        parents=[common],
        help='list the snapshots that run on this host',
        description='List the snapshots that run on this host, whether '
        'nova-compute takes them or a command.',
    )
    parser.set_defaults(run=run, overrides=lambda _arguments: [])


def run(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    _cancellation: Cancellation,
) -> int:
    running = status.running(conf.snapshot.state_directory)
    if arguments.format == 'json':
        output.print_json([dataclasses.asdict(each) for each in running])
    elif running:
        output.print_table(TITLES, [_in_words(each) for each in running])
    else:
        print('No snapshot is running on this host.')
    return 0


def _in_words(each: Status) -> list[str]:
    done = f'{each.percent} %' if each.step else ''
    if each.step in IN_BYTES:
        done += f' of {each.total // MIB} MiB'
    return [
        each.domain,
        each.path,
        each.step or 'prepare',
        done,
        '' if each.rate is None else f'{each.rate / MIB:.1f} MiB/s',
        '' if each.seconds_left is None else f'{each.seconds_left} s',
    ]
