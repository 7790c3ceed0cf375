# SPDX-License-Identifier: Apache-2.0
"""The units of systemd that run a command of this package."""

from __future__ import annotations

import os
from collections.abc import Iterator

from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict

SUBJECT = 'systemd'

#: The directories of units, of whoever may write one.
DIRECTORIES = (
    '/etc/systemd/system',
    '/run/systemd/system',
    '/usr/local/lib/systemd/system',
    '/usr/lib/systemd/system',
    '/lib/systemd/system',
)

COMMAND = 'nova-snapshot'

#: The beginning of the value of a command whose failure does not count.
_TOLERATED = '-'


def findings() -> Iterator[Finding]:
    """The lines of units that run a command of this package."""
    for path in _files():
        try:
            with open(path, encoding='utf-8', errors='replace') as file:
                lines = file.read().splitlines()
        except OSError as error:
            yield Finding(
                SUBJECT,
                Verdict.WARNING,
                f'{NOT_KNOWN} {path} cannot be read: {error.strerror}',
            )
            continue
        yield from (
            _finding(path, line.strip())
            for line in lines
            if _runs_command(line)
        )


def _files() -> Iterator[str]:
    """The units, and the files that change one, each once."""
    found = set()
    for directory in DIRECTORIES:
        for root, _, names in os.walk(directory):
            for name in names:
                path = os.path.realpath(os.path.join(root, name))
                if name.endswith(('.service', '.conf')) and path not in found:
                    found.add(path)
                    if os.path.isfile(path):
                        yield path


def _runs_command(line: str) -> bool:
    name, _, value = line.partition('=')
    words = value.split()
    return (
        name.strip().startswith('Exec')
        and bool(words)
        and os.path.basename(words[0].lstrip('-@:+!')) == COMMAND
    )


def _finding(path: str, line: str) -> Finding:
    value = line.partition('=')[2].strip()
    is_tolerated = value.startswith(_TOLERATED)
    return Finding(
        SUBJECT,
        Verdict.WARNING if is_tolerated else Verdict.FAILURE,
        f'{path} has the line "{line}". Take it out, and run "systemctl '
        'daemon-reload".'
        + ('' if is_tolerated else ' Without the package the unit fails.'),
    )
