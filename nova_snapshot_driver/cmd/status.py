# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot status``: the snapshots that run on this host."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver import journal
from nova_snapshot_driver import status
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.cmd import output
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.progress import IN_BYTES
from nova_snapshot_driver.status import Status
from nova_snapshot_driver.workspace import MIB

#: The rest would not fit into a terminal.
TITLES = ('Domain', 'Path', 'Step', 'Done', 'Speed', 'Left')


TITLES_OF_LEFT = ('Domain', 'May be', 'Unfinished')


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        'status',
        parents=[common],
        help='list the snapshots that run on this host',
        description='List the snapshots that run on this host, whether '
        'nova-compute takes them or a command.',
    )
    parser.add_argument(
        '--all',
        action='store_true',
        help='list what snapshots that died have left, too',
    )
    parser.set_defaults(run=run, overrides=lambda _arguments: [])


def run(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    _cancellation: Cancellation,
) -> int:
    directory = conf.snapshot.state_directory
    running = status.running(directory)
    left = journal.abandoned(directory) if arguments.all else []
    if arguments.format == 'json':
        found: Any = [dataclasses.asdict(each) for each in running]
        if arguments.all:
            found = {'running': found, 'left': [_left(each) for each in left]}
        output.print_json(found)
        return 0
    if running:
        output.print_table(TITLES, [_in_words(each) for each in running])
    else:
        print('No snapshot is running on this host.')
    if left:
        print('Snapshots that died have left:')
        output.print_table(TITLES_OF_LEFT, [_left_words(e) for e in left])
        print('"nova-snapshot recover" undoes it.')
    elif arguments.all:
        print('No snapshot that died has left anything.')
    return 0


def _left(entry: Entry) -> dict[str, Any]:
    """What a snapshot may have taken and made; no secret is in it."""
    state = entry.power_state
    return {
        'domain': entry.definition.name,
        'uuid': entry.definition.uuid,
        'taken': {
            'definition': entry.persistent,
            'power_state': None if state is None else state.value,
            'paused': entry.paused,
            'frozen': entry.frozen,
            'devices': [device.alias for device in entry.devices],
        },
        'image': entry.image,
        'file': entry.draft,
        'volumes': list(entry.volumes),
        'clone': None if entry.clone is None else str(entry.clone.image),
        'directories': list(entry.directories),
    }


def _left_words(entry: Entry) -> list[str]:
    may_be = {
        'undefined': entry.persistent,
        'suspended': entry.power_state,
        'paused': entry.paused,
        'frozen': entry.frozen,
        **{f'without {each.alias}': True for each in entry.devices},
    }
    unfinished = {
        'image': entry.image,
        'file': entry.draft,
        'snapshots of volumes': ', '.join(entry.volumes),
        'clone': entry.clone and entry.clone.image,
    }
    return [
        entry.definition.name,
        ', '.join(what for what, is_so in may_be.items() if is_so),
        ', '.join(
            f'{what} {which}' for what, which in unfinished.items() if which
        ),
    ]


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
