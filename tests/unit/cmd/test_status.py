# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings.undefine import Undefine
from tests.unit import documents
from tests.unit import tables
from tests.unit.cmd.command import CommandLine
from tests.unit.running_snapshot import RunningSnapshot
from tests.unit.state.test_journal import DEFINITION
from tests.unit.state.test_journal import ENTRY


class StatusTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.command = self.useFixture(CommandLine())
        self.state = self.command.host.directories.state

    def begin(self) -> RunningSnapshot:
        return self.useFixture(
            RunningSnapshot(self.state, documents.NAME, documents.UUID)
        )

    def test_none(self) -> None:
        Journal(self.state)
        result = self.command.run('status')
        self.assertEqual(0, result.status)
        self.assertIn('No snapshot is running', result.output)

    def test_none_as_json(self) -> None:
        Journal(self.state)
        result = self.command.run('status', '--format', 'json')
        self.assertEqual(0, result.status)
        self.assertEqual(
            {'running': [], 'abandoned': None, 'unreadable': []}, result.json
        )

    def test_in_words(self) -> None:
        self.begin()
        result = self.command.run('status')
        self.assertEqual(0, result.status)
        for words in (documents.NAME, 'mirror', 'upload', '25 % of 4 MiB'):
            self.assertIn(words, result.output)

    def test_json(self) -> None:
        snapshot = self.begin()
        result = self.command.run('status', '--format', 'json')
        (found,) = result.json['running']
        self.assertEqual(documents.NAME, found['domain'])
        self.assertEqual(documents.UUID, found['uuid'])
        self.assertEqual(snapshot.process.pid, found['pid'])
        self.assertEqual('an-image', found['image'])
        self.assertIsNone(found['file'])
        self.assertEqual('upload', found['step'])
        self.assertEqual((1 << 20, 4 << 20), (found['done'], found['total']))
        self.assertEqual(25, found['percent'])

    def test_libvirt_is_not_asked(self) -> None:
        self.command.no_libvirt = True
        self.begin()
        self.assertEqual(0, self.command.run('status').status)
        self.assertEqual([], self.command.uris)


class WatchTest(testtools.TestCase):
    """Until somebody ends it."""

    def setUp(self) -> None:
        super().setUp()
        self.command = self.useFixture(CommandLine())
        self.state = self.command.host.directories.state
        self.looks: list[float] = []
        self.useFixture(
            fixtures.MockPatchObject(Cancellation, 'sleep', self.sleep)
        )

    def sleep(self, seconds: float) -> None:
        """Have a person press Ctrl-C at the third look."""
        self.looks.append(seconds)
        if len(self.looks) == 3:
            raise exception.Cancelled(reason='SIGINT')

    def test_json(self) -> None:
        self.useFixture(
            RunningSnapshot(self.state, documents.NAME, documents.UUID)
        )
        once = self.command.run('status', '--format', 'json')
        self.assertIn(documents.NAME, once.output)
        result = self.command.run('status', '--watch', '--format', 'json')
        self.assertEqual((0, ''), (result.status, result.errors))
        lines = result.output.splitlines()
        self.assertEqual([once.json] * 3, [json.loads(line) for line in lines])
        self.assertEqual([2, 2, 2], self.looks)

    def test_table(self) -> None:
        Journal(self.state)
        result = self.command.run('status', '--watch', '5')
        self.assertEqual((0, ''), (result.status, result.errors))
        self.assertEqual(3, result.output.count('No snapshot is running'))
        self.assertRegex(result.output, r'(?m)^\d{4}-\d\d-\d\d \d\d:')
        self.assertNotIn('\x1b', result.output)
        self.assertEqual([5, 5, 5], self.looks)

    def test_what_is_new_is_seen(self) -> None:
        Journal(self.state).remember(ENTRY)
        self.useFixture(
            fixtures.MockPatchObject(Cancellation, 'sleep', self.recover)
        )
        result = self.command.run('status', '--all', '--watch')
        self.assertIn('hostdev0', result.output)
        self.assertIn('No snapshot that died', result.output)

    def recover(self, seconds: float) -> None:
        Journal(self.state).forget(ENTRY.uuid)
        self.sleep(seconds)


@ddt.ddt
class IntervalTest(testtools.TestCase):
    @tables.rows({'none': ('0',), 'day': ('86400',), 'word': ('soon',)})
    def test_refused(self, interval: str) -> None:
        command = self.useFixture(CommandLine())
        ended = self.assertRaises(
            SystemExit, command.run, 'status', '--watch', interval
        )
        self.assertEqual(2, ended.code)


class AbandonedTest(testtools.TestCase):
    """Snapshots that died have left something."""

    def setUp(self) -> None:
        super().setUp()
        self.command = self.useFixture(CommandLine())
        self.state = self.command.host.directories.state

    def test_nothing(self) -> None:
        Journal(self.state)
        result = self.command.run('status', '--all')
        self.assertEqual(0, result.status)
        self.assertIn('No snapshot that died', result.output)
        self.assertEqual(
            {'running': [], 'abandoned': [], 'unreadable': []},
            self.command.run('status', '--all', '--format', 'json').json,
        )

    def test_in_words(self) -> None:
        Journal(self.state).remember(ENTRY)
        self.assertNotIn('died', self.command.run('status').output)
        result = self.command.run('status', '--all')
        self.assertEqual(0, result.status)
        for words in ('web-1', 'with checkpoints', 'frozen', 'hostdev0'):
            self.assertIn(words, result.output)
        self.assertNotIn('undefined', result.output)
        self.assertIn('nova-snapshot recover', result.output)

    def test_json(self) -> None:
        Journal(self.state).remember(ENTRY)
        result = self.command.run('status', '--all', '--format', 'json')
        (found,) = result.json['abandoned']
        self.assertEqual('web-1', found['domain'])
        self.assertEqual(ENTRY.uuid, found['uuid'])
        self.assertEqual(
            [each.KIND for each in ENTRY.takings],
            [each['kind'] for each in found['takings']],
        )
        self.assertIn(
            {
                'kind': 'freeze',
                'state': 'frozen',
                'undo': 'thaw its file systems',
            },
            found['takings'],
        )

    def test_no_secret(self) -> None:
        """The definition of a domain holds some."""
        Journal(self.state).remember(ENTRY.with_(Undefine(DEFINITION)))
        for form in ('table', 'json'):
            result = self.command.run('status', '--all', '--format', form)
            self.assertNotIn('<', result.output)

    def test_one_that_runs(self) -> None:
        Journal(self.state).remember(ENTRY)
        self.useFixture(RunningSnapshot(self.state, 'web-1', ENTRY.uuid))
        result = self.command.run('status', '--all', '--format', 'json')
        self.assertEqual([], result.json['abandoned'])
        self.assertEqual(1, len(result.json['running']))
