# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import testtools

from tests.unit import documents
from tests.unit.cmd.command import CommandLine
from tests.unit.running_snapshot import RunningSnapshot


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
        result = self.command.run('status')
        self.assertEqual(0, result.status)
        self.assertIn('No snapshot is running', result.output)
        # By root it would be nobody's that Nova runs as.
        self.assertFalse(os.path.exists(self.state))

    def test_none_as_json(self) -> None:
        result = self.command.run('status', '--format', 'json')
        self.assertEqual((0, []), (result.status, result.json))

    def test_in_words(self) -> None:
        self.begin()
        result = self.command.run('status')
        self.assertEqual(0, result.status)
        for words in (documents.NAME, 'mirror', 'upload', '25 % of 4 MiB'):
            self.assertIn(words, result.output)

    def test_json(self) -> None:
        snapshot = self.begin()
        (found,) = self.command.run('status', '--format', 'json').json
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
