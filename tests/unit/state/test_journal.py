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

import ddt
import fixtures
import hypothesis
import testtools
from hypothesis import strategies

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.rbd import Clone
from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.checkpoint_xml import Tracking
from nova_snapshot_driver.hypervisor.domain import HostDevice
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Definition
from nova_snapshot_driver.state import journal
from nova_snapshot_driver.state import locks
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.state.state_directory import Listing
from nova_snapshot_driver.takings.agent_channel import AgentChannel
from nova_snapshot_driver.takings.device import DetachedDevice
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.undefine import Undefine
from tests import exhaustive
from tests.unit import tables
from tests.unit.entries import taken

DEFINITION = Definition(
    name='web-1',
    uuid='8a6f3f5e-2c0e-4a53-9d31-6b1a52b0f0c4',
    xml="<domain type='kvm'>\n  <name>wéb</name>\n</domain>",
    autostart=True,
)

#: The UUID of another domain.
OTHER = '0d9e8f7a-2c0e-4a53-9d31-6b1a52b0f0c4'

NOTHING: Listing[Entry] = Listing((), ())

ENTRY = taken(
    DEFINITION,
    persistent=False,
    power_state=PowerState.PAUSED,
    devices=(HostDevice('hostdev0', '<hostdev/>', '<identity/>'),),
    agent=HostDevice('channel0', '<channel/>', '<identity/>'),
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
    tracking=Tracking(
        Bitmap('vda', 'nova-snapshot-chain-old'),
        Bitmap('vda', 'nova-snapshot-chain-new'),
    ),
)

#: The rest of the entry when the guest has been given back.
REST = dataclasses.replace(
    ENTRY,
    takings=tuple(
        each for each in ENTRY.takings if each.WHOSE is not Whose.GUEST
    ),
)

#: Documents that are entries but for one place.
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

#: Takes the lock, says so, and keeps it for as long as it lives.
HOLDER = """\
import sys
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.state.state_directory import Listing
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
        # Secrets stay secret whatever the umask of a service is.
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)
        self.journal = Journal(str(self.directory))

    @property
    def entry(self) -> pathlib.Path:
        return self.directory / f'{DEFINITION.uuid}.json'


class ClaimTest(JournalCase):
    """A domain is not defined again that its owner destroys."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.FakeLogger())
        self.journal.remember(ENTRY)

    def claimed(self) -> contextlib.AbstractContextManager[bool]:
        return self.journal.claimed(DEFINITION.uuid, 'web-1', 5)

    def test_wanted(self) -> None:
        with self.claimed() as is_wanted:
            self.assertTrue(is_wanted)

    def test_forgotten(self) -> None:
        self.journal.forget_domain(DEFINITION.uuid, 5)
        self.assertEqual(REST, self.journal.recall(DEFINITION.uuid))
        with self.claimed() as is_wanted:
            self.assertFalse(is_wanted)

    def test_nothing_to_forget(self) -> None:
        self.journal.forget(DEFINITION.uuid)
        self.journal.forget_domain(DEFINITION.uuid, 5)
        self.assertIsNone(self.journal.recall(DEFINITION.uuid))

    def test_forgotten_once_it_is_defined(self) -> None:
        owner = threading.Thread(
            target=self.journal.forget_domain, args=(DEFINITION.uuid, 5)
        )
        with self.claimed():
            owner.start()
            owner.join(0.2)
            self.assertEqual(ENTRY, self.journal.recall(DEFINITION.uuid))
        owner.join(5)
        self.assertEqual(REST, self.journal.recall(DEFINITION.uuid))

    def test_definition_that_does_not_end(self) -> None:
        with self.claimed():
            self.journal.forget_domain(DEFINITION.uuid, 0)
            self.assertEqual(REST, self.journal.recall(DEFINITION.uuid))

    def test_owner_that_does_not_end(self) -> None:
        with self.claimed():
            claim = self.journal.claimed(DEFINITION.uuid, 'web-1', 0)
            self.assertRaises(exception.DomainBusy, claim.__enter__)

    def test_journal_that_can_not_be_read(self) -> None:
        self.directory.chmod(0o777)
        with self.claimed() as is_wanted:
            self.assertTrue(is_wanted)


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
            each.KIND: (each,)
            for each in (*ENTRY.takings, Undefine(DEFINITION))
            if each.WHOSE is Whose.GUEST
        }
    )
    def test_one_thing_is_not_given_back(self, taking: Taking) -> None:
        entry = REST.with_(taking)
        self.assertFalse(entry.is_given_back)
        self.assertEqual(REST, entry.given_back())

    def test_no_secret_is_left_when_it_is_given_back(self) -> None:
        secret = dataclasses.replace(DEFINITION, xml='<passwd>s3cret</passwd>')
        device = HostDevice('hostdev0', '<s3cret/>', '<s3cret/>')
        entry = ENTRY.without(DetachedDevice, AgentChannel).with_(
            Undefine(secret), DetachedDevice(device)
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
        undo_failed = exception.UndoFailed(
            domain='web-1', undo='-', reason='-', remedy='-'
        )
        with (
            testtools.ExpectedException(exception.UndoFailed),
            self.journal.kept(ENTRY),
        ):
            raise undo_failed
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
            testtools.ExpectedException(exception.UndoFailed),
            self.journal.kept(REST),
            self.journal.kept(ENTRY, REST),
        ):
            raise exception.UndoFailed(
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

    def test_entries(self) -> None:
        self.assertEqual((), self.journal.entries().found)
        other = dataclasses.replace(ENTRY, uuid=OTHER)
        self.journal.remember(ENTRY)
        self.journal.remember(other)
        # A draft from a death in the middle of a write, and a lock.
        (self.directory / 'third.json.draft').touch()
        (self.directory / 'fourth.lock').touch()
        self.assertCountEqual([ENTRY, other], self.journal.entries().found)

    def test_find(self) -> None:
        self.journal.remember(ENTRY)
        for name in (DEFINITION.name, DEFINITION.uuid):
            self.assertEqual(ENTRY, self.journal.find(name))
        self.assertIsNone(self.journal.find('web'))

    def test_directory_with_wildcards(self) -> None:
        journal = Journal(str(self.directory / '[a]*'))
        journal.remember(ENTRY)
        self.assertEqual(ENTRY, journal.find('web-1'))

    def test_full_disk_leaves_the_former_entry(self) -> None:
        self.journal.remember(ENTRY)
        self.useFixture(
            fixtures.MockPatch(
                'os.fsync', side_effect=OSError(28, 'No space left on device')
            )
        )
        later = taken(Definition('web-1', DEFINITION.uuid, '<later/>', False))
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
            'torn': ('{"version": 2, "domain": "web',),
            'empty': ('',),
            'no_object': ('[]',),
            'other_version': (ENTRY.to_json().replace('2', '3', 1),),
            'field_missing': ('{"version": 2, "takings": []}',),
            'no_version': (ENTRY.to_json().replace('version', 'v'),),
            'state': (ENTRY.to_json().replace('"paused"', '"away"'),),
            'stranger': (ENTRY.to_json().replace('freeze', 'cold'),),
            'other_kind': (
                ENTRY.with_(Undefine(DEFINITION))
                .to_json()
                .replace('true', '1'),
            ),
            'definition_of_another_domain': (
                ENTRY.with_(
                    Undefine(dataclasses.replace(DEFINITION, uuid=OTHER))
                ).to_json(),
            ),
            'takings': (ENTRY.to_json().replace('[', '{}, "other": [', 1),),
            'no_list': (ENTRY.to_json().replace('"/scratch"', '5'),),
            'other_domain': (ENTRY.to_json().replace('8a6f3f5e', '0d9e8f7a'),),
            'no_domain': (ENTRY.to_json().replace('8a6f3f5e', '*'),),
            'no_draft': (ENTRY.to_json().replace('.part', '.qcow2'),),
            'relative_draft': (ENTRY.to_json().replace('/backup', 'backup'),),
            'relative_directory': (
                ENTRY.to_json().replace('"/scratch"', '"scratch"'),
            ),
            'nul': (ENTRY.to_json().replace('/scratch', '/a\\u0000'),),
            'half_of_a_character': (
                ENTRY.to_json().replace('web-1', '\\ud800', 1),
            ),
            'device': (ENTRY.to_json().replace('"<hostdev/>"', '5'),),
            'clone': (ENTRY.to_json().replace('"a-cluster"', '[]'),),
            'deep': ('[' * 100_000,),
            'huge': (ENTRY.to_json() + ' ' * journal.LARGEST,),
        }
    )
    def test_unreadable_entry_is_set_aside(self, content: str) -> None:
        log = self.useFixture(fixtures.FakeLogger())
        self.entry.write_text(content)
        self.assertIsNone(self.journal.recall(DEFINITION.uuid))
        aside = self.entry.with_name(f'{self.entry.name}.unreadable')
        self.assertEqual(content, aside.read_text())
        self.assertEqual([aside.name], os.listdir(self.directory))
        self.assertIn(f'is set aside as {aside}', log.output)
        # Nobody knows what it said, and so it is no empty journal.
        for look in (self.journal.entries(), self.abandoned()):
            (error,) = look.unreadable
            self.assertEqual(str(aside), error.fields['path'])

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
        self.assertEqual((), self.journal.entries().found)
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
        """The file may belong to a live snapshot, which root takes."""
        self.journal.remember(ENTRY)
        denied = PermissionError(errno.EACCES, 'Permission denied')
        with fixtures.MockPatch(
            'nova_snapshot_driver.common.private_files.Directory.read',
            side_effect=denied,
        ):
            self.assertRaises(
                exception.StateUnreadable,
                self.journal.recall,
                DEFINITION.uuid,
            )
            for look in (self.journal.entries(), self.abandoned()):
                self.assertEqual((), look.found)
                (error,) = look.unreadable
                self.assertEqual(str(self.entry), error.fields['path'])
                self.assertEqual('Permission denied', error.fields['reason'])
        self.assertEqual(ENTRY, self.journal.recall(DEFINITION.uuid))

    @hypothesis.settings(
        max_examples=exhaustive.examples(200), deadline=None, database=None
    )
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
                self.assertEqual(DEFINITION.uuid, found.uuid)

    def test_abandoned(self) -> None:
        self.assertEqual(NOTHING, journal.abandoned(str(self.directory)))
        self.journal.remember(ENTRY)
        self.entry.with_name('torn.json').write_text('{')
        found = self.abandoned()
        self.assertEqual((ENTRY,), found.found)
        (error,) = found.unreadable
        self.assertTrue(error.fields['path'].endswith('/torn.json'))
        # A look changes nothing.
        self.assertEqual(2, len(os.listdir(self.directory)))

    def abandoned(self) -> Listing[Entry]:
        return journal.abandoned(str(self.directory))

    @tables.rows(
        {
            'its_uuid': (DEFINITION.uuid, True),
            # The file does not say whose it is.
            'any_name': ('web-1', True),
            'another_uuid': (OTHER, False),
        }
    )
    def test_find_where_an_entry_is_unreadable(
        self, domain: str, may_be_its_own: bool
    ) -> None:
        self.useFixture(fixtures.FakeLogger())
        self.entry.write_text('{')
        if may_be_its_own:
            self.assertRaises(
                exception.StateUnreadable, self.journal.find, domain
            )
        else:
            self.assertIsNone(self.journal.find(domain))

    def test_unreadable_entry_does_not_hide_others(self) -> None:
        self.useFixture(fixtures.FakeLogger())
        (self.directory / '0.json').write_text('{')
        (self.directory / 'z.json').write_text('{')
        self.journal.remember(ENTRY)
        self.assertEqual(ENTRY, self.journal.find('web-1'))
        self.assertEqual((ENTRY,), self.journal.entries().found)

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
        return locks.is_locked(str(self.directory), DEFINITION.uuid)

    def test_one_that_is_alive_is_not_abandoned(self) -> None:
        self.journal.remember(ENTRY)
        process = self.holder()
        self.assertEqual(NOTHING, journal.abandoned(str(self.directory)))
        process.kill()
        process.wait()
        self.assertEqual(
            Listing((ENTRY,), ()), journal.abandoned(str(self.directory))
        )

    def test_is_locked(self) -> None:
        self.assertFalse(self.is_locked())
        process = self.holder()
        self.assertTrue(self.is_locked())
        # A look does not hold the lock.
        self.assertTrue(self.is_locked())
        process.kill()
        process.wait()
        self.assertFalse(self.is_locked())

    def sidecar_path(self) -> list[str]:
        return [
            name
            for name in os.listdir(self.directory)
            if not name.endswith('.lock')
        ]

    def test_what_an_earlier_snapshot_left_is_gone(self) -> None:
        for name in ('status', 'status.draft', 'cancel'):
            (self.directory / f'{DEFINITION.uuid}.{name}').touch()
        with self.journal.exclusive('other', 'web-2'):
            self.assertEqual(3, len(self.sidecar_path()))
        with self.journal.exclusive(DEFINITION.uuid, 'web-1'):
            self.assertEqual([], self.sidecar_path())

    def test_what_is_of_a_snapshot_that_runs_stays(self) -> None:
        self.holder()
        (self.directory / f'{DEFINITION.uuid}.status').touch()
        self.assertRaises(exception.DomainBusy, self.take)
        self.assertEqual(1, len(self.sidecar_path()))
