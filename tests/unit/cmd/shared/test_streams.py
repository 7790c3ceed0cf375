# SPDX-License-Identifier: Apache-2.0
"""The command in whatever surroundings a shell, cron or a pipe gives it."""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import ddt
import fixtures
import testtools

from tests import exhaustive
from tests.unit import tables

PATIENCE = 60

#: A libvirt that is no process and has one domain, which is not QEMU's.
URI = 'test:///default'

UNWRITTEN = 3

ROOT = pathlib.Path(__file__).parents[4]

#: The output and the exit status of each command where all is well.
COMMANDS: dict[str, tuple[list[str], int, str]] = {
    'status': (['status', '--all'], 0, 'No snapshot is running'),
    'status_json': (['status', '--format', 'json'], 0, '"running": []'),
    'recover': (['recover'], 0, 'No snapshot that died'),
    'check': (['check'], 1, 'Snapshots directory'),
    'help': (['--help'], 0, 'usage: nova-snapshot'),
    'version': (['--version'], 0, '.'),
}

#: The commands that fail: the error is on standard error, and the status is
#: the same wherever that goes.
FAILURES: dict[str, tuple[list[str], int, str]] = {
    'create': (['create', 'test', '-o', '/image'], 1, 'Domain test:'),
    'cancel': (['cancel', 'test'], 1, 'No snapshot of domain test'),
    'arguments': (['create'], 2, 'usage: nova-snapshot'),
}


#: Have the shell in a directory that is gone.
GONE = 'mkdir gone && cd gone && rmdir ../gone'

#: The preparations in the shell, and the environment; None unsets a variable.
ROWS: dict[str, tuple[str, dict[str, str | None]]] = {
    'locale_c': ('', {'LC_ALL': 'C', 'PYTHONCOERCECLOCALE': '0'}),
    'no_such_locale': ('', {'LC_ALL': 'xx_XX'}),
    'ascii': ('', {'PYTHONIOENCODING': 'ascii'}),
    'latin': ('', {'PYTHONIOENCODING': 'latin-1:strict'}),
    'no_home': ('', {'HOME': None}),
    'no_terminal': ('', {'TERM': None}),
    'dumb_terminal': ('', {'TERM': 'dumb'}),
    'narrow': ('', {'COLUMNS': '1', 'LINES': '1'}),
    'no_columns': ('', {'COLUMNS': '0'}),
    'no_temporary_directory': ('', {'TMPDIR': '/nowhere'}),
    'temporary_directory_is_a_file': ('', {'TMPDIR': os.devnull}),
    'directory_is_gone': (GONE, {}),
    'directory_is_shut': ('mkdir shut && cd shut && chmod 0 .', {}),
    'umask': ('umask 777', {}),
    'few_files': ('ulimit -n 24', {}),
    'nice': ('renice 19 $$ >&2', {}),
    'signals': ('trap "" HUP INT CHLD PIPE XFSZ', {}),
}


def product(
    *tables_: dict[str, tuple[Any, ...]],
) -> dict[str, tuple[Any, ...]]:
    """Each row of one table with each of the other."""
    first, second = tables_
    return {
        f'{one}_{other}': (*first[one], *second[other])
        for one in first
        for other in second
    }


class StreamsCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.home = self.root / 'home'
        self.home.mkdir()
        (self.root / 'state').mkdir(0o700)

    def run_command(
        self,
        arguments: list[str],
        redirection: str = '',
        before: str = '',
        environment: dict[str, str | None] | None = None,
        stdout: int = subprocess.PIPE,
        ignored: Sequence[signal.Signals] = (),
    ) -> tuple[int, str, str]:
        """Exit status, output and errors of a command in a shell.

        :param redirection: what follows the command in the shell
        :param before: what the shell does first
        :param stdout: where the output goes
        :param ignored: the signals that are ignored where it is started
        """
        common = (
            []
            if arguments[0].startswith('--')
            else [
                *('--connect', URI, '--config-file', os.devnull),
                *('--snapshots-directory', str(self.root / 'snapshots')),
                *('--state-directory', str(self.root / 'state')),
            ]
        )
        command = shlex.join(
            [
                *(sys.executable, '-m', 'nova_snapshot_driver.cmd.main'),
                *arguments,
                *common,
            ]
        )
        variables: dict[str, str | None] = {
            'HOME': str(self.home),
            'PATH': os.environ['PATH'],
            'PYTHONPATH': str(ROOT),
            **(environment or {}),
        }
        done = subprocess.run(
            [
                *('bash', '-o', 'pipefail', '-c'),
                f'{before}\n{command} {redirection}',
            ],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            cwd=self.home,
            env={
                name: value
                for name, value in variables.items()
                if value is not None
            },
            preexec_fn=lambda: ignore(ignored),
            timeout=PATIENCE,
        )
        output, errors = (done.stdout or b'').decode(), done.stderr.decode()
        for words in (output, errors):
            self.assertNotIn('Traceback', words)
            self.assertNotIn('Exception ignored', words)
        return done.returncode, output, errors


def ignore(numbers: Sequence[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


@ddt.ddt
class OutputTest(StreamsCase):
    """Standard output can't be written: the result is on standard error."""

    @tables.rows(
        product(
            COMMANDS,
            {
                'closed': ('>&-', 'Bad file descriptor'),
                'full': ('>/dev/full', 'No space left'),
                'all_but_errors_closed': ('<&- >&-', 'Bad file descriptor'),
            },
        )
    )
    def test_unwritable(
        self,
        arguments: list[str],
        _status: int,
        words: str,
        redirection: str,
        reason: str,
    ) -> None:
        status, output, errors = self.run_command(arguments, redirection)
        self.assert_unwritten(arguments, status, output + errors)
        if arguments[0] not in ('--help', '--version'):
            self.assertIn(words, errors)
            self.assertIn(reason, errors)

    @tables.rows(COMMANDS)
    def test_nobody_reads(
        self, arguments: list[str], _status: int, words: str
    ) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        self.addCleanup(os.close, writer)
        status, _output, errors = self.run_command(arguments, stdout=writer)
        self.assert_unwritten(arguments, status, errors)

    def assert_unwritten(
        self, arguments: list[str], status: int, said: str
    ) -> None:
        self.assertEqual(UNWRITTEN, status, said)
        if arguments[0] not in ('--help', '--version'):
            self.assertIn('could not be written to standard output', said)

    @tables.rows(FAILURES)
    def test_failure_comes_first(
        self, arguments: list[str], status: int, words: str
    ) -> None:
        for redirection in ('>&-', '>/dev/full'):
            found, _output, errors = self.run_command(arguments, redirection)
            self.assertEqual(status, found, errors)
            self.assertIn(words, errors)

    def test_failure_as_json(self) -> None:
        status, _output, errors = self.run_command(
            ['cancel', 'test', '--format', 'json'], '>/dev/full'
        )
        self.assertEqual(1, status)
        self.assertIn('snapshot-not-found', errors)


@ddt.ddt
class ErrorsTest(StreamsCase):
    """Standard error can't be written: nobody hears, nothing else changes."""

    @tables.rows(
        product(
            {name: COMMANDS[name] for name in ('status', 'recover', 'help')},
            {
                'closed': ('2>&-',),
                'full': ('2>/dev/full',),
                'with_standard_input': ('<&- 2>&-',),
            },
        )
    )
    def test_unwritable(
        self, arguments: list[str], status: int, words: str, redirection: str
    ) -> None:
        found, output, _errors = self.run_command(arguments, redirection)
        self.assertEqual(status, found)
        self.assertIn(words, output)

    @tables.rows(
        product(
            FAILURES,
            {
                'errors_closed': ('2>&-',),
                'errors_full': ('2>/dev/full',),
                'both_full': ('>/dev/full 2>&1',),
                'all_closed': ('<&- >&- 2>&-',),
            },
        )
    )
    def test_failure(
        self, arguments: list[str], status: int, words: str, redirection: str
    ) -> None:
        found, output, errors = self.run_command(arguments, redirection)
        self.assertEqual((status, '', ''), (found, output, errors))

    def test_all_closed(self) -> None:
        status, _output, _errors = self.run_command(['status'], '<&- >&- 2>&-')
        self.assertEqual(UNWRITTEN, status)


@ddt.ddt
class SurroundingsTest(StreamsCase):
    """Each command says the same, wherever it is called."""

    @tables.rows(exhaustive.drawn(ROWS))
    def test_command(
        self, before: str, environment: dict[str, str | None]
    ) -> None:
        for arguments, status, words in (
            COMMANDS['status'],
            FAILURES['cancel'],
            FAILURES['create'],
        ):
            found, output, errors = self.run_command(
                arguments, before=before, environment=environment
            )
            self.assertEqual(status, found, output + errors)
            self.assertIn(words, output + errors)

    @tables.rows(
        {
            name: ROWS[name]
            for name in (
                'locale_c',
                'narrow',
                'no_temporary_directory',
                'directory_is_gone',
                'umask',
                'few_files',
                'signals',
            )
        }
    )
    def test_data_plane(
        self, before: str, environment: dict[str, str | None]
    ) -> None:
        status, output, errors = self.run_command(
            COMMANDS['check'][0], before=before, environment=environment
        )
        self.assertEqual(COMMANDS['check'][1], status, errors)
        # No word is lost, whatever the width.
        words = ' '.join(output.split())
        self.assertIn('an image of 1 MiB was converted', words)
        self.assertIn('an image of 1 MiB was made', words)

    @tables.rows(
        {
            option: (option,)
            for option in ('--state-directory', '--snapshots-directory')
        }
    )
    def test_relative_directory_that_is_gone(self, option: str) -> None:
        status, _output, errors = self.run_command(
            ['status'], f'{option} here', GONE
        )
        self.assertEqual(1, status)
        self.assertIn(option, errors)

    def test_relative_file_in_a_directory_that_is_gone(self) -> None:
        status, _output, errors = self.run_command(
            ['create', 'test', '--output', 'image'], before=GONE
        )
        self.assertEqual(1, status)
        self.assertIn('--output', errors)

    def test_name_that_is_no_text(self) -> None:
        name = os.fsdecode(b'\xff\xe4')
        for encoding in ('utf-8', 'ascii', 'latin-1'):
            status, output, errors = self.run_command(
                ['cancel', name, '--format', 'json'],
                environment={'PYTHONIOENCODING': encoding},
            )
            self.assertEqual(1, status, errors)
            code = json.loads(output)['error']['code']
            self.assertEqual('snapshot-not-found', code)


@ddt.ddt
class SignalTest(StreamsCase):
    """A signal that is ignored where the command is started stays so."""

    def test_child_that_nobody_hears_of(self) -> None:
        """A failure of it is not taken for success."""
        commands = self.root / 'bin'
        commands.mkdir()
        (commands / 'qemu-img').write_text('#!/bin/sh\nexit 1\n')
        (commands / 'qemu-img').chmod(0o755)
        for ignored in ((), (signal.SIGCHLD,)):
            _status, output, errors = self.run_command(
                ['check', '--format', 'json'],
                environment={'PATH': f'{commands}:{os.environ["PATH"]}'},
                ignored=ignored,
            )
            verdicts = {
                found['subject']: found['verdict']
                for found in json.loads(output)
            }
            self.assertEqual('FAILURE', verdicts['Data plane'], errors)
