# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot status``: the snapshots that run on this host."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.shared import output
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import IN_BYTES
from nova_snapshot_driver.state import journal
from nova_snapshot_driver.state import status
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.status import Status
from nova_snapshot_driver.state.workspace import MIB
from nova_snapshot_driver.takings.taking import Whose

#: The columns that fit into a terminal.
TITLES = ('Domain', 'Method', 'Step', 'Done', 'Speed', 'Left')

TITLES_OF_ABANDONED = ('Domain', 'May be', 'Unfinished')

#: The seconds that may be between two looks.
INTERVALS = range(1, 3601)


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
    parser.add_argument(
        '--watch',
        type=_interval,
        nargs='?',
        const=2,
        metavar='SECONDS',
        help='list them again and again, every SECONDS (default: 2), until '
        'Ctrl-C; as JSON, one object a line',
    )
    parser.set_defaults(run=run, overrides=lambda _arguments: [])


def _interval(text: str) -> int:
    if not text.isdecimal() or int(text) not in INTERVALS:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no number from {INTERVALS.start} to {INTERVALS[-1]}'
        )
    return int(text)


def run(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    cancellation: Cancellation,
) -> int:
    directory = conf.snapshot.state_directory
    if arguments.watch is None:
        _show(arguments, directory)
        return 0
    # Ctrl-C is how a person ends this: nothing has failed.
    with contextlib.suppress(exception.Cancelled):
        while True:
            if arguments.format == 'table':
                output.begin_screen()
            _show(arguments, directory)
            cancellation.sleep(arguments.watch)
    return 0


def _show(arguments: argparse.Namespace, directory: str) -> None:
    running = status.running(directory)
    abandoned = journal.abandoned(directory) if arguments.all else None
    if arguments.format == 'json':
        output.print_json(
            _to_dict(running, abandoned),
            in_one_line=arguments.watch is not None,
        )
        return
    if running:
        output.print_table(TITLES, [_in_words(each) for each in running])
    else:
        output.print_line('No snapshot is running on this host.')
    if abandoned:
        output.print_line('Snapshots that died have left:')
        output.print_table(
            TITLES_OF_ABANDONED, [_abandoned_words(e) for e in abandoned]
        )
        output.print_line('"nova-snapshot recover" undoes it.')
    elif arguments.all:
        output.print_line('No snapshot that died has left anything.')


def _to_dict(
    running: list[Status], abandoned: list[Entry] | None
) -> dict[str, Any]:
    """The result, with the same names whatever was asked for.

    :param abandoned: None where nobody has asked for it
    """
    return {
        'running': [each.to_dict() for each in running],
        'abandoned': None
        if abandoned is None
        else [_abandoned(entry) for entry in abandoned],
    }


def _abandoned(entry: Entry) -> dict[str, Any]:
    """The takings of a snapshot that died, without any secret."""
    return {
        'domain': entry.name,
        'uuid': entry.uuid,
        'takings': [
            {
                'kind': taking.KIND,
                'state': taking.state(),
                'undo': taking.describe(),
            }
            for taking in entry.takings
        ],
    }


def _abandoned_words(entry: Entry) -> list[str]:
    return [
        entry.name,
        _states(entry, Whose.GUEST),
        _states(entry, Whose.IMAGE),
    ]


def _states(entry: Entry, whose: Whose) -> str:
    return ', '.join(
        each.state() for each in entry.takings if each.WHOSE is whose
    )


def _in_words(each: Status) -> list[str]:
    done = f'{each.percent} %' if each.step else ''
    if each.step in IN_BYTES:
        done += f' of {each.total // MIB} MiB'
    return [
        each.domain,
        each.method,
        each.step or 'prepare',
        done,
        '' if each.rate is None else f'{each.rate / MIB:.1f} MiB/s',
        '' if each.seconds_left is None else f'{each.seconds_left} s',
    ]
