# SPDX-License-Identifier: Apache-2.0
"""The units of systemd that run the command of this package."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict

SUBJECT = 'systemd'

#: The directories of units, and of drop-ins in directories of their own.
#: Source: systemd.unit(5).
DIRECTORIES = (
    '/etc/systemd/system',
    '/run/systemd/system',
    '/usr/local/lib/systemd/system',
    '/usr/lib/systemd/system',
    '/lib/systemd/system',
)

COMMAND = 'nova-snapshot'

#: The special prefixes of a command, and the one of a command whose failure
#: does not count. Source: systemd.service(5).
PREFIXES = '-@:+!|'
TOLERATED = '-'


def findings() -> Iterator[Finding]:
    """The lines that run the command, and what could not be looked at."""
    shut: list[OSError] = []
    for path in _files(shut):
        try:
            with open(path, encoding='utf-8', errors='replace') as file:
                lines = [line.strip() for line in file]
        except FileNotFoundError:
            # A link to nowhere has no lines.
            continue
        except OSError as unreadable:
            shut.append(unreadable)
            continue
        yield from (
            _finding(path, line) for line in lines if _runs_command(line)
        )
    for error in shut:
        yield Finding(
            SUBJECT,
            Verdict.WARNING,
            f'{NOT_KNOWN} {error.filename} cannot be read: {error.strerror}',
        )


def _files(shut: list[OSError]) -> Iterator[str]:
    """The units and their drop-ins, each once.

    :param shut: takes the errors of directories that can't be read
    """

    def complain(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            shut.append(error)

    seen = set()
    for directory in DIRECTORIES:
        for root, _, names in os.walk(directory, onerror=complain):
            for name in sorted(names):
                path = os.path.join(root, name)
                # /lib is a link to /usr/lib on most hosts.
                real = os.path.realpath(path)
                if name.endswith(('.service', '.conf')) and real not in seen:
                    seen.add(real)
                    yield path


def _runs_command(line: str) -> bool:
    """Whether a line of a unit has a command with ours in it."""
    name, _, value = line.partition('=')
    if not name.startswith('Exec'):
        return False
    return any(
        os.path.basename(word.lstrip(PREFIXES)) == COMMAND
        for word in value.replace('"', ' ').replace("'", ' ').split()
    )


def _finding(path: str, line: str) -> Finding:
    command = line.partition('=')[2].strip()
    prefixes = command.removesuffix(command.lstrip(PREFIXES))
    is_tolerated = TOLERATED in prefixes
    consequence = (
        'A line in the log is all that comes of it without the package.'
        if is_tolerated
        else 'Without the package, the unit fails.'
    )
    return Finding(
        SUBJECT,
        Verdict.WARNING if is_tolerated else Verdict.FAILURE,
        f'{shlex.quote(path)} has the line {line!r}. {consequence} Delete it, '
        'and run "systemctl daemon-reload".',
    )
