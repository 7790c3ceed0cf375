# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot status``: the snapshots that run on this host."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.shared import output
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import IN_BYTES
from nova_snapshot_driver.state import journal
from nova_snapshot_driver.state import status
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.state_directory import Listing
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
        'nova-compute takes them or a command. The exit status is 1 if '
        'something in the state directory could not be read.',
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
        seen = _show(arguments, directory)
    else:
        seen = _watch(arguments, directory, cancellation)
    return int(bool(seen.unreadable))


@dataclasses.dataclass(frozen=True)
class _Seen:
    """The state of the host.

    :ivar abandoned: None where nobody has asked for it
    """

    running: Listing[Status]
    abandoned: Listing[Entry] | None

    @property
    def unreadable(self) -> list[exception.StateUnreadable]:
        abandoned = () if self.abandoned is None else self.abandoned.unreadable
        return [*self.running.unreadable, *abandoned]

    def to_dict(self) -> dict[str, Any]:
        """The result, with the same names whatever was asked for."""
        return {
            'running': [each.to_dict() for each in self.running.found],
            'abandoned': None
            if self.abandoned is None
            else [_abandoned(entry) for entry in self.abandoned.found],
            'unreadable': [
                {name: each.fields[name] for name in ('path', 'reason')}
                for each in self.unreadable
            ],
        }


def _watch(
    arguments: argparse.Namespace, directory: str, cancellation: Cancellation
) -> _Seen:
    """
    :returns: the last look
    """
    while True:
        if arguments.format == 'table':
            output.begin_screen()
        seen = _show(arguments, directory)
        try:
            cancellation.sleep(arguments.watch)
        except exception.Cancelled:
            # Ctrl-C is how a person ends this: nothing has failed.
            return seen


def _show(arguments: argparse.Namespace, directory: str) -> _Seen:
    seen = _Seen(
        status.running(directory),
        journal.abandoned(directory) if arguments.all else None,
    )
    if arguments.format == 'json':
        output.print_json(
            seen.to_dict(), in_one_line=arguments.watch is not None
        )
        return seen
    _print_running(seen.running)
    if seen.abandoned is not None:
        _print_abandoned(seen.abandoned)
    if seen.unreadable:
        output.print_line('Nobody knows what these files say:')
    for each in seen.unreadable:
        output.print_line(f'{each.fields["path"]}: {each.fields["reason"]}')
    return seen


def _print_running(running: Listing[Status]) -> None:
    if running.found:
        output.print_table(TITLES, [_in_words(each) for each in running.found])
    elif not running.unreadable:
        output.print_line('No snapshot is running on this host.')


def _print_abandoned(abandoned: Listing[Entry]) -> None:
    if abandoned.found:
        output.print_line('Snapshots that died have left:')
        output.print_table(
            TITLES_OF_ABANDONED, [_abandoned_words(e) for e in abandoned.found]
        )
        output.print_line('"nova-snapshot recover" undoes it.')
    elif not abandoned.unreadable:
        output.print_line('No snapshot that died has left anything.')


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
