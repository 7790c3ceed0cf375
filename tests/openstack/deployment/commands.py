# SPDX-License-Identifier: Apache-2.0
"""The commands of the pages, and what they are in the lab.

A page may only have commands that are known here: what a test does not run,
it does not prove.
"""

from __future__ import annotations

import dataclasses
import shlex

#: The programs that are run as they stand, but for the paths.
PROGRAMS = frozenset({'ls', 'nova-snapshot', 'openstack', 'pip', 'rm', 'sed'})


class UnknownCommand(LookupError):
    """A command of which nobody has said what it is in the lab."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A program to run."""

    argv: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Build:
    """A wheel of the checkout, built without a network."""


@dataclasses.dataclass(frozen=True)
class Restart:
    """A service to start anew."""

    service: str


@dataclasses.dataclass(frozen=True)
class Nothing:
    """A command to systemd or AppArmor, which the lab does not have."""


Action = Run | Build | Restart | Nothing


def translate(line: str) -> Action:
    """
    :param line: as a page has it
    :raises UnknownCommand: the lab has nothing for it
    """
    match shlex.split(line, comments=True):
        case ['sudo', '-u', 'nova', *command]:
            return translate(shlex.join(command))
        case ['apt-get', 'install', *packages]:
            # The lab needs these packages itself: bindep.txt.
            return Run(('dpkg-query', '--show', *packages))
        case ['python', '-m', 'build']:
            return Build()
        case ['install', '-d', '-o', 'nova', '-g', 'nova', *others]:
            return Run(('install', '-d', *others))
        case ['systemctl', 'daemon-reload']:
            return Nothing()
        case ['systemctl', 'reload', 'apparmor']:
            return Nothing()
        case ['systemctl', 'restart' | 'reload', service]:
            return Restart(service)
        case [program, *_] as argv if _name(program) in PROGRAMS:
            return Run(tuple(argv))
    raise UnknownCommand(line)


def _name(program: str) -> str:
    return program.rpartition('/')[2]
