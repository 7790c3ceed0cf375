# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import ddt
import fixtures
import hypothesis
import testtools
from hypothesis import strategies

from nova_snapshot_driver import exception
from nova_snapshot_driver import journal
from nova_snapshot_driver.domain import HostDevice
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.domain import RbdImage
from nova_snapshot_driver.guest import Definition
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.journal import Journal
from nova_snapshot_driver.rbd import Clone
from tests.unit import tables

DEFINITION = Definition(
    name='web-1',
    uuid='8a6f3f5e-2c0e-4a53-9d31-6b1a52b0f0c4',
    xml="<domain type='kvm'>\n  <name>wéb</name>\n</domain>",
    autostart=True,
)

ENTRY = Entry(
    DEFINITION,
    persistent=False,
    power_state=PowerState.PAUSED,
    devices=(HostDevice('hostdev0', '<hostdev/>', '<identity/>'),),
    frozen=True,
    image='5f2c9d54-1c57-4b8e-8f49-3f6f0fd1a1b2',
    clone=Clone(
        RbdImage('vms', '8a6f3f5e_disk', 'nova'),
        'nova-snapshot-5f2c9d54',
        RbdImage('images', '5f2c9d54-1c57-4b8e-8f49-3f6f0fd1a1b2'),
        'a-cluster',
    ),
    volumes=('0a1b2c3d-1c57-4b8e-8f49-3f6f0fd1a1b2',),
    paused=True,
    directories=('/var/lib/nova/instances/snapshots', '/scratch'),
    draft='/backup/web-1.qcow2.0a1b2c3d.part',
)

#: What is left to be undone when the guest has been given back.
REST = Entry(
    dataclasses.replace(DEFINITION, xml=''),
    persistent=False,
    image=ENTRY.image,
    clone=ENTRY.clone,
    volumes=ENTRY.volumes,
    directories=ENTRY.directories,
    draft=ENTRY.draft,
)

#: What is an entry but for one place.
_ALMOST_ENTRIES = strategies.builds(
    lambda name, value: json.dumps(
        {**json.loads(ENTRY.to_json()), name: value}
    ).encode(),
    strategies.sampled_from([*json.loads(ENTRY.to_json()), 'other']),
    strategies.recursive(
        strategies.none()
        | strategies.booleans()
        | strategies.integers()
        | strategies.text(),
        lambda inner: (
            strategies.lists(inner)
            | strategies.dictionaries(strategies.text(), inner)
        ),
        max_leaves=5,
    ),
)

#: As it was written before an entry knew of an image, or of a clone.
OLD = """\
{
  "version": 1,
  "definition": {
    "name": "web-1",
    "uuid": "8a6f3f5e-2c0e-4a53-9d31-6b1a52b0f0c4",
    "xml": "<domain/>",
    "autostart": false
  },
  "persistent": true,
  "power_state": "running",
  "devices": [],
  "frozen": true
}
"""

#: Takes the lock, says so, and keeps it for as long as it lives.
HOLDER = """\
import sys
from nova_snapshot_driver.journal import Journal
with Journal(sys.argv[1]).exclusive(sys.argv[2], 'web-1'):
    print('held', flush=True)
    sys.stdin.read()
"""


def mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class JournalCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        temporary = self.useFixture(fixtures.TempDir()).path
        self.directory = pathlib.Path(temporary) / 'lib' / 'state'
        # What is secret is so whatever the umask of a service is.
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)
        self.journal = Journal(str(self.directory))

    @property
    def entry(self) -> pathlib.Path:
        return self.directory / f'{DEFINITION.uuid}.json'


@ddt.ddt
class EntryTest(JournalCase):
    def test_modes(self) -> None:
        self.journal.remember(ENTRY)
        self.assertEqual(0o700, mode(self.directory))
        self.assertEqual(0o600, mode(self.entry))

    def test_remember_recall_forget(self) -> None:
        self.assertIsNone(self.journal.recall(DEFINITION.uuid))
        self.journal.remember(ENTRY)
        other = Journal(str(self.directory))
        self.assertEqual(ENTRY, other.recall(DEFINITION.uuid))
        other.forget(DEFINITION.uuid)
        self.assertIsNone(self.journal.recall(DEFINITION.uuid))
        self.assertEqual([], os.listdir(self.directory))
        other.forget(DEFINITION.uuid)

    def test_given_back(self) -> None:
        self.assertEqual(REST, ENTRY.given_back())
        self.assertEqual(REST, REST.given_back())
        self.assertTrue(REST.is_given_back)
        self.assertFalse(ENTRY.is_given_back)

    def test_given_back_is_not_forgotten_on_disk(self) -> None:
        self.journal.remember(REST)
        entry = self.journal.recall(DEFINITION.uuid)
        self.assertTrue(entry and entry.is_given_back)

    @tables.rows(
        {
            name: (fields,)
            for name, fields in {
                'definition': {'definition': DEFINITION},
                'persistent': {'persistent': True},
                'power_state': {'power_state': ENTRY.power_state},
                'devices': {'devices': ENTRY.devices},
                'frozen': {'frozen': True},
                'paused': {'paused': True},
            }.items()
        }
    )
    def test_one_thing_is_not_given_back(self, fields: dict[str, Any]) -> None:
        entry = dataclasses.replace(REST, **fields)
        self.assertFalse(entry.is_given_back)
        self.assertEqual(REST, entry.given_back())

    def test_no_secret_is_left_when_it_is_given_back(self) -> None:
        secret = dataclasses.replace(DEFINITION, xml='<passwd>s3cret</passwd>')
        device = HostDevice('hostdev0', '<s3cret/>', '<s3cret/>')
        entry = dataclasses.replace(
            ENTRY, definition=secret, devices=(device,)
        )
        self.journal.remember(entry)
        self.assertIn('s3cret', self.entry.read_text())
        self.journal.remember(entry.given_back())
        self.assertNotIn('s3cret', self.entry.read_text())
        self.assertNotIn('<', self.entry.read_text())

    def test_kept(self) -> None:
        """For as long as the domain is not given back."""
        for error in (None, exception.Cancelled(reason='-'), KeyError()):
            with (
                contextlib.suppress(KeyError, exception.Cancelled),
                self.journal.kept(ENTRY),
            ):
                self.assertTrue(self.entry.exists())
                if error:
                    raise error
            self.assertFalse(self.entry.exists())
        not_given_back = exception.NotGivenBack(
            domain='web-1', undo='-', reason='-', remedy='-'
        )
        with (
            testtools.ExpectedException(exception.NotGivenBack),
            self.journal.kept(ENTRY),
        ):
            raise not_given_back
        self.assertEqual(ENTRY, self.journal.recall(DEFINITION.uuid))

    def test_kept_while_snapshots_in_cinder_are_left(self) -> None:
        with (
            testtools.ExpectedException(exception.VolumeSnapshotsLeftBehind),
            self.journal.kept(REST),
        ):
            raise exception.VolumeSnapshotsLeftBehind(
                cause='-', reason='-', volumes='-', mark='-', image='-'
            )
        self.assertEqual(REST, self.journal.recall(DEFINITION.uuid))

    def test_kept_and_another_one_afterwards(self) -> None:
        for error in (None, exception.Cancelled(reason='-'), KeyError()):
            with (
                contextlib.suppress(KeyError, exception.Cancelled),
                self.journal.kept(ENTRY, REST),
            ):
                self.assertEqual(ENTRY, self.journal.recall(DEFINITION.uuid))
                if error:
                    raise error
            self.assertEqual(REST, self.journal.recall(DEFINITION.uuid))

    def test_none_afterwards_where_the_domain_is_not_given_back(self) -> None:
        with (
            testtools.ExpectedException(exception.NotGivenBack),
            self.journal.kept(REST),
            self.journal.kept(ENTRY, REST),
        ):
            raise exception.NotGivenBack(
                domain='web-1', undo='-', reason='-', remedy='-'
            )
        self.assertEqual(ENTRY, self.journal.recall(DEFINITION.uuid))

    def test_entry_that_can_not_be_replaced_stays(self) -> None:
        """Too much is undone then, which is better than too little."""
        with (
            testtools.ExpectedException(exception.DirectoryUnusable),
            self.journal.kept(ENTRY, REST),
        ):
            self.useFixture(
                fixtures.MockPatch(
                    'os.fsync', side_effect=OSError(28, 'No space left')
                )
            )
        self.assertEqual(ENTRY, self.journal.recall(DEFINITION.uuid))

    def test_entry_that_knows_of_no_image(self) -> None:
        self.entry.write_text(OLD)
        entry = self.journal.recall(DEFINITION.uuid)
        assert entry is not None
        self.assertIsNone(entry.image)
        self.assertEqual(((), False), (entry.volumes, entry.paused))
        self.assertEqual(((), None), (entry.directories, entry.draft))
        self.assertEqual(PowerState.RUNNING, entry.power_state)
        self.assertTrue(entry.persistent and entry.frozen)

    def test_entries(self) -> None:
        self.assertEqual([], list(self.journal.entries()))
        other = dataclasses.replace(
            ENTRY, definition=dataclasses.replace(DEFINITION, uuid='other')
        )
        self.journal.remember(ENTRY)
        self.journal.remember(other)
        # What a death in the middle of a write leaves, and a lock.
        (self.directory / 'third.json.draft').touch()
        (self.directory / 'fourth.lock').touch()
        self.assertCountEqual([ENTRY, other], self.journal.entries())

    def test_find(self) -> None:
        self.journal.remember(ENTRY)
        for name in (DEFINITION.name, DEFINITION.uuid):
            self.assertEqual(ENTRY, self.journal.find(name))
        self.assertIsNone(self.journal.find('web'))

    def test_directory_with_wildcards(self) -> None:
        journal = Journal(str(self.directory / '[a]*'))
        journal.remember(ENTRY)
        self.assertEqual(ENTRY, journal.find('web-1'))

    def test_what_root_makes_belongs_to_the_owner_of_the_directory(
        self,
    ) -> None:
        """nova-compute could not open it."""
        given = []
        owner = self.directory.stat()
        self.useFixture(fixtures.MockPatch('os.geteuid', return_value=0))
        self.useFixture(
            fixtures.MockPatch('os.chown', lambda *what: given.append(what))
        )
        with self.journal.exclusive(DEFINITION.uuid, 'web-1'):
            self.journal.remember(ENTRY)
        (lock, *owner_of_lock), (_entry, *owner_of_entry) = given
        self.assertEqual(f'{self.directory}/{DEFINITION.uuid}.lock', lock)
        for found in (owner_of_lock, owner_of_entry):
            self.assertEqual([owner.st_uid, owner.st_gid], found)

    def test_others_have_nothing_to_give(self) -> None:
        self.useFixture(fixtures.MockPatch('os.geteuid', return_value=1000))
        chown = self.useFixture(fixtures.MockPatch('os.chown')).mock
        with self.journal.exclusive(DEFINITION.uuid, 'web-1'):
            self.journal.remember(ENTRY)
        chown.assert_not_called()

    def test_full_disk_leaves_the_former_entry(self) -> None:
        self.journal.remember(ENTRY)
        self.useFixture(
            fixtures.MockPatch(
                'os.fsync', side_effect=OSError(28, 'No space left on device')
            )
        )
        later = Entry(Definition('web-1', DEFINITION.uuid, '<later/>', False))
        error = self.assertRaises(
            exception.DirectoryUnusable, self.journal.remember, later
        )
        self.assertIn('No space left on device', str(error))
        self.assertEqual(ENTRY, self.journal.recall(DEFINITION.uuid))
        self.assertEqual([self.entry.name], os.listdir(self.directory))

    def test_synced_before_it_has_its_name(self) -> None:
        synced = []
        fsync = os.fsync

        def see(descriptor: int) -> None:
            target = os.readlink(f'/proc/self/fd/{descriptor}')
            content = pathlib.Path(target)
            is_complete = content.is_file() and bool(content.read_text())
            synced.append((is_complete, self.entry.exists()))
            fsync(descriptor)

        self.useFixture(fixtures.MockPatch('os.fsync', see))
        self.journal.remember(ENTRY)
        # The file, and then the directory that names it.
        self.assertEqual([(True, False), (False, True)], synced)

    @tables.rows(
        {
            'torn': ('{"version": 1, "name": "web',),
            'empty': ('',),
            'no_object': ('[]',),
            'other_version': (ENTRY.to_json().replace('1', '2', 1),),
            'field_missing': ('{"version": 1, "name": "web-1"}',),
            'no_version': (ENTRY.to_json().replace('version', 'v'),),
            'state': (ENTRY.to_json().replace('paused', 'asleep'),),
            'stranger': (ENTRY.to_json().replace('frozen', 'cold'),),
            'other_kind': (ENTRY.to_json().replace('true', '1'),),
            'no_list': (ENTRY.to_json().replace('"/scratch"', '5'),),
            'other_domain': (ENTRY.to_json().replace('8a6f3f5e', '*'),),
            'deep': ('[' * 100_000,),
            'huge': (ENTRY.to_json() + ' ' * journal.LARGEST,),
        }
    )
    def test_unreadable_entry_is_set_aside(self, content: str) -> None:
        log = self.useFixture(fixtures.FakeLogger())
        self.entry.write_text(content)
        self.assertIsNone(self.journal.recall(DEFINITION.uuid))
        self.assertIsNone(self.journal.find('web-1'))
        aside = self.entry.with_name(f'{self.entry.name}.unreadable')
        self.assertEqual(content, aside.read_text())
        self.assertEqual([aside.name], os.listdir(self.directory))
        self.assertIn(f'is set aside as {aside}', log.output)

    @tables.rows(
        {
            'directory': (os.mkdir,),
            'full_directory': (lambda path: os.makedirs(path / 'below'),),
            'dangling_link': (lambda path: path.symlink_to('nowhere'),),
            'link': (lambda path: path.symlink_to('/etc/passwd'),),
            'endless_link': (lambda path: path.symlink_to(path),),
            'pipe': (os.mkfifo,),
        }
    )
    def test_what_is_no_file_is_set_aside(
        self, make: Callable[[pathlib.Path], object]
    ) -> None:
        log = self.useFixture(fixtures.FakeLogger())
        make(self.entry)
        self.assertEqual([], list(self.journal.entries()))
        self.assertIsNone(self.journal.recall(DEFINITION.uuid))
        aside = f'{self.entry.name}.unreadable'
        self.assertEqual([aside], os.listdir(self.directory))
        self.assertIn('it is no file', log.output)
        self.journal.remember(ENTRY)
        self.assertEqual(ENTRY, self.journal.recall(DEFINITION.uuid))

    def test_nothing_that_is_set_aside_is_lost(self) -> None:
        self.useFixture(fixtures.FakeLogger())
        for content in ('first', 'second', 'third'):
            self.entry.write_text(content)
            self.assertIsNone(self.journal.recall(DEFINITION.uuid))
        self.assertEqual(
            ['first', 'second', 'third'],
            [
                self.entry.with_name(f'{self.entry.name}.{end}').read_text()
                for end in ('unreadable', 'unreadable.2', 'unreadable.3')
            ],
        )

    def test_file_of_another_user_stays(self) -> None:
        """It may be of a snapshot that is alive, which root takes."""
        self.journal.remember(ENTRY)
        log = self.useFixture(fixtures.FakeLogger())
        denied = PermissionError(errno.EACCES, 'Permission denied')
        with fixtures.MockPatch('builtins.open', side_effect=denied):
            self.assertRaises(
                exception.DirectoryUnusable,
                self.journal.recall,
                DEFINITION.uuid,
            )
            self.assertEqual([], list(self.journal.entries()))
            self.assertEqual([], journal.abandoned(str(self.directory)))
        self.assertIn('Permission denied', log.output)
        self.assertEqual(ENTRY, self.journal.recall(DEFINITION.uuid))

    @hypothesis.settings(max_examples=200, deadline=None, database=None)
    @hypothesis.given(strategies.binary() | _ALMOST_ENTRIES)
    def test_any_content(self, content: bytes) -> None:
        with (
            tempfile.TemporaryDirectory() as directory,
            fixtures.FakeLogger(),
        ):
            entry = pathlib.Path(directory, f'{DEFINITION.uuid}.json')
            entry.write_bytes(content)
            found = Journal(directory).recall(DEFINITION.uuid)
            aside = entry.with_name(f'{entry.name}.unreadable')
            if found is None:
                self.assertEqual(content, aside.read_bytes())
            else:
                self.assertFalse(aside.exists())
                self.assertEqual(found, Entry.from_json(found.to_json()))
                self.assertEqual(DEFINITION.uuid, found.definition.uuid)

    def test_abandoned(self) -> None:
        self.assertEqual([], journal.abandoned(str(self.directory)))
        self.journal.remember(ENTRY)
        self.entry.with_name('torn.json').write_text('{')
        log = self.useFixture(fixtures.FakeLogger())
        self.assertEqual([ENTRY], journal.abandoned(str(self.directory)))
        # Whoever looks touches nothing.
        self.assertIn('torn.json cannot be read', log.output)
        self.assertEqual(2, len(os.listdir(self.directory)))

    def test_unreadable_entry_does_not_hide_others(self) -> None:
        self.useFixture(fixtures.FakeLogger())
        (self.directory / '0.json').write_text('{')
        (self.directory / 'z.json').write_text('{')
        self.journal.remember(ENTRY)
        self.assertEqual(ENTRY, self.journal.find('web-1'))
        self.assertEqual([ENTRY], list(self.journal.entries()))

    def test_directory_that_can_not_be_made(self) -> None:
        self.entry.touch()
        error = self.assertRaises(
            exception.DirectoryUnusable, Journal, str(self.entry / 'below')
        )
        self.assertIn('[snapshot] state_directory', str(error))


class ExclusiveTest(JournalCase):
    def holder(self) -> subprocess.Popen[bytes]:
        """Another process, which is a snapshot of the domain."""
        process = subprocess.Popen(
            [
                *(sys.executable, '-c', HOLDER),
                *(str(self.directory), DEFINITION.uuid),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(process.__exit__, None, None, None)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.assertEqual(b'held\n', process.stdout.readline())
        return process

    def take(self) -> None:
        with self.journal.exclusive(DEFINITION.uuid, 'web-1'):
            pass

    def test_other_process(self) -> None:
        process = self.holder()
        error = self.assertRaises(exception.DomainBusy, self.take)
        self.assertIn('web-1', str(error))
        # Another domain is not in the way.
        with self.journal.exclusive('other', 'web-2'):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.take()

    def test_other_thread(self) -> None:
        raised: list[BaseException] = []

        def work() -> None:
            try:
                self.take()
            except BaseException as error:
                raised.append(error)

        with self.journal.exclusive(DEFINITION.uuid, 'web-1'):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join(30)
        self.assertIsInstance(raised.pop(), exception.DomainBusy)
        self.take()

    def test_released_after_an_error(self) -> None:
        with (
            testtools.ExpectedException(KeyError),
            self.journal.exclusive(DEFINITION.uuid, 'web-1'),
        ):
            raise KeyError
        self.take()

    def test_error_inside_is_not_taken_for_a_busy_domain(self) -> None:
        with (
            testtools.ExpectedException(exception.DomainBusy, '.*web-2.*'),
            self.journal.exclusive(DEFINITION.uuid, 'web-1'),
        ):
            raise exception.DomainBusy(domain='web-2')

    def is_locked(self) -> bool:
        return journal.is_locked(str(self.directory), DEFINITION.uuid)

    def test_one_that_is_alive_is_not_abandoned(self) -> None:
        self.journal.remember(ENTRY)
        process = self.holder()
        self.assertEqual([], journal.abandoned(str(self.directory)))
        process.kill()
        process.wait()
        self.assertEqual([ENTRY], journal.abandoned(str(self.directory)))

    def test_is_locked(self) -> None:
        self.assertFalse(self.is_locked())
        process = self.holder()
        self.assertTrue(self.is_locked())
        # Whoever looks is not in the way.
        self.assertTrue(self.is_locked())
        process.kill()
        process.wait()
        self.assertFalse(self.is_locked())

    def passing(self) -> list[str]:
        return [
            name
            for name in os.listdir(self.directory)
            if not name.endswith('.lock')
        ]

    def test_what_an_earlier_snapshot_left_is_gone(self) -> None:
        for name in ('status', 'status.draft', 'cancel'):
            (self.directory / f'{DEFINITION.uuid}.{name}').touch()
        with self.journal.exclusive('other', 'web-2'):
            self.assertEqual(3, len(self.passing()))
        with self.journal.exclusive(DEFINITION.uuid, 'web-1'):
            self.assertEqual([], self.passing())

    def test_what_is_of_a_snapshot_that_runs_stays(self) -> None:
        self.holder()
        (self.directory / f'{DEFINITION.uuid}.status').touch()
        self.assertRaises(exception.DomainBusy, self.take)
        self.assertEqual(1, len(self.passing()))
