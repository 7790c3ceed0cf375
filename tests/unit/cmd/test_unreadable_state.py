# SPDX-License-Identifier: Apache-2.0
"""A state directory that nobody could look into is never an empty one."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable

import ddt
import testtools

from nova_snapshot_driver.state.journal import Journal
from tests.unit import documents
from tests.unit import tables
from tests.unit.cmd.command import CommandLine
from tests.unit.denied import Denied
from tests.unit.entries import taken
from tests.unit.running_snapshot import RunningSnapshot
from tests.unit.state.test_journal import OTHER

#: Each command that says what there is.
COMMANDS = {
    'status': ('status',),
    'status_all': ('status', '--all'),
    'recover': ('recover',),
    'dry_run': ('recover', '--dry-run'),
    'cancel': ('cancel', documents.NAME),
}


def missing(_path: pathlib.Path) -> None:
    return


def hidden(path: pathlib.Path) -> Denied:
    """A directory above lets nobody pass."""
    path.mkdir(parents=True)
    return Denied(path.parent)


def shut(path: pathlib.Path) -> Denied:
    path.mkdir(parents=True)
    return Denied(path)


def passable(path: pathlib.Path) -> Denied:
    """A directory whose files can be opened, if one knows their names."""
    path.mkdir(parents=True)
    return Denied(path, 0o711 if os.geteuid() == 0 else 0o300)


def file(path: pathlib.Path) -> None:
    path.parent.mkdir()
    path.touch()


def below_a_file(path: pathlib.Path) -> None:
    path.parent.touch()


def dangling_link(path: pathlib.Path) -> None:
    path.parent.mkdir()
    path.symlink_to('nowhere')


def endless_link(path: pathlib.Path) -> None:
    path.parent.mkdir()
    path.symlink_to(path)


def writable(path: pathlib.Path) -> None:
    path.mkdir(parents=True)
    path.chmod(0o777)


#: How the directory may be, and the error that says so.
STATES: dict[str, tuple[Callable[[pathlib.Path], Denied | None], str]] = {
    'missing': (missing, 'state-directory-missing'),
    'dangling_link': (dangling_link, 'state-directory-missing'),
    'hidden': (hidden, 'state-unreadable'),
    'shut': (shut, 'state-unreadable'),
    'passable': (passable, 'state-unreadable'),
    'endless_link': (endless_link, 'state-unreadable'),
    'file': (file, 'directory-unusable'),
    'below_a_file': (below_a_file, 'directory-unusable'),
    'writable': (writable, 'directory-unusable'),
}


@ddt.ddt
class DirectoryTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.command = self.useFixture(CommandLine())
        host = self.command.host
        self.state = host.root / 'above' / 'state'
        host.directories = dataclasses.replace(
            host.directories, state=str(self.state)
        )

    @tables.rows(
        {
            f'{command}_{state}': (COMMANDS[command], *STATES[state])
            for command, state in itertools.product(COMMANDS, STATES)
        }
    )
    def test_no_command_says_that_all_is_well(
        self,
        command: tuple[str, ...],
        make: Callable[[pathlib.Path], Denied | None],
        code: str,
    ) -> None:
        denied = make(self.state)
        with denied or contextlib.nullcontext():
            result = self.command.run(*command, '--format', 'json')
        self.assertEqual(1, result.status, result.output)
        error = result.json['error']
        self.assertEqual(code, error['code'])
        # The directory, the reason, and the configuration that names it.
        self.assertIn(str(self.state), error['message'])
        self.assertIn('[snapshot] state_directory', error['message'])
        self.assertIn(f'Configuration: {self.command.config}', result.errors)

    @tables.rows({name: (each,) for name, each in COMMANDS.items()})
    def test_missing_directory_is_not_made(
        self, command: tuple[str, ...]
    ) -> None:
        """By root it would be nobody's that Nova runs as."""
        result = self.command.run(*command)
        self.assertIn('no snapshot was ever taken', result.errors)
        self.assertEqual('', result.output)
        self.assertFalse(self.state.parent.exists())


@ddt.ddt
class OneFileTest(testtools.TestCase):
    """The directory can be read, but for one file."""

    def setUp(self) -> None:
        super().setUp()
        self.command = self.useFixture(CommandLine())
        self.state = pathlib.Path(self.command.host.directories.state)
        definition = self.command.host.guest().definition()
        Journal(str(self.state)).remember(taken(definition, frozen=True))
        self.entry = self.state / f'{documents.UUID}.json'

    def damaged(self) -> pathlib.Path:
        path = self.state / f'{OTHER}.json'
        path.write_text('{')
        return path

    def test_status(self) -> None:
        """The other entries are listed all the same."""
        path = self.damaged()
        result = self.command.run('status', '--all', '--format', 'json')
        self.assertEqual(1, result.status)
        (abandoned,) = result.json['abandoned']
        self.assertEqual(documents.UUID, abandoned['uuid'])
        (unreadable,) = result.json['unreadable']
        self.assertEqual({'path', 'reason'}, unreadable.keys())
        self.assertEqual(str(path), unreadable['path'])

    def test_status_in_words(self) -> None:
        os.unlink(self.entry)
        path = self.damaged()
        result = self.command.run('status', '--all')
        self.assertEqual(1, result.status)
        self.assertNotIn('No snapshot that died', result.output)
        self.assertIn(f'{path}: ', result.output)

    def test_status_that_was_not_asked_for_it(self) -> None:
        self.damaged()
        self.assertEqual(0, self.command.run('status').status)

    def test_file_that_this_user_may_not_read(self) -> None:
        self.state.chmod(0o755)
        with Denied(self.entry):
            result = self.command.run('status', '--all', '--format', 'json')
        self.assertEqual(1, result.status)
        self.assertEqual(
            [{'path': str(self.entry), 'reason': 'Permission denied'}],
            result.json['unreadable'],
        )

    def test_running_snapshot(self) -> None:
        """Somebody takes one, and nobody knows which."""
        self.useFixture(
            RunningSnapshot(str(self.state), documents.NAME, documents.UUID)
        )
        path = self.state / f'{documents.UUID}.status'
        path.write_text('{')
        result = self.command.run('status')
        self.assertEqual(1, result.status)
        self.assertNotIn('No snapshot is running', result.output)
        result = self.command.run('cancel', documents.NAME, '--format', 'json')
        self.assertEqual('state-unreadable', result.json['error']['code'])

    @tables.rows({'now': ((),), 'dry_run': (('--dry-run',),)})
    def test_recover(self, arguments: tuple[str, ...]) -> None:
        """The other domains are looked after all the same."""
        self.damaged()
        result = self.command.to_glance(
            'recover', *arguments, '--format', 'json'
        )
        self.assertEqual(1, result.status)
        found = {outcome['uuid']: outcome for outcome in result.json}
        self.assertEqual({OTHER, documents.UUID}, found.keys())
        (step,) = found[OTHER]['steps']
        self.assertEqual('state-unreadable', step['error']['code'])
