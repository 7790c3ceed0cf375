# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import threading

import fixtures
import testtools

from nova_snapshot_driver.hypervisor.guest import Definition
from nova_snapshot_driver.state.cancel_request import CancelRequest
from nova_snapshot_driver.state.journal import Journal
from tests.unit import documents
from tests.unit.cmd.command import CommandLine
from tests.unit.cmd.command import Result
from tests.unit.entries import taken
from tests.unit.running_snapshot import RunningSnapshot

PATIENCE = 30


class CancelTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.command = self.useFixture(CommandLine())
        self.state = self.command.host.directories.state
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.cmd.cancel.POLL_INTERVAL', 0.01
            )
        )

    def begin(self, hears: bool = True) -> RunningSnapshot:
        return self.useFixture(
            RunningSnapshot(self.state, documents.NAME, documents.UUID, hears)
        )

    def cancel(self, domain: str = documents.NAME) -> Result:
        return self.command.run('cancel', domain, '--format', 'json')

    def requests(self) -> list[str]:
        return [
            name for name in os.listdir(self.state) if name.endswith('.cancel')
        ]

    def assert_not_found(self, result: Result, reason: str) -> None:
        self.assertEqual(1, result.status)
        error = result.json['error']
        self.assertEqual('snapshot-not-found', error['code'])
        self.assertIn(reason, error['message'])

    def test_by_name(self) -> None:
        snapshot = self.begin()
        result = self.cancel()
        self.assertEqual(0, result.status, result.errors)
        self.assertEqual('cancelled-by-operator', snapshot.says())
        self.assertEqual(
            {
                'domain': documents.NAME,
                'uuid': documents.UUID,
                'image': 'an-image',
                'file': None,
                'given_back': True,
            },
            result.json,
        )
        self.assertEqual([], self.requests())

    def test_by_uuid(self) -> None:
        self.begin()
        self.assertEqual(0, self.cancel(documents.UUID).status)

    def test_in_words(self) -> None:
        self.begin()
        result = self.command.run('cancel', documents.NAME)
        self.assertEqual(0, result.status)
        for words in (documents.NAME, 'an-image', 'cancelled', 'everything'):
            self.assertIn(words, result.output)

    def test_not_everything_is_given_back(self) -> None:
        definition = Definition(documents.NAME, documents.UUID, '', False)
        Journal(self.state).remember(taken(definition))
        snapshot = self.begin()
        result = self.cancel()
        self.assertEqual(1, result.status)
        self.assertIs(False, result.json['given_back'])
        snapshot = self.begin()
        result = self.command.run('cancel', documents.NAME)
        self.assertEqual(1, result.status)
        self.assertIn(
            f'the log of process {snapshot.process.pid}', result.output
        )

    def test_none(self) -> None:
        Journal(self.state)
        self.assert_not_found(self.cancel(), 'none is running')

    def test_another_one(self) -> None:
        snapshot = self.begin()
        self.assert_not_found(self.cancel('web-9'), 'none is running')
        self.assertEqual([], self.requests())
        self.assertIsNone(snapshot.process.poll())

    def test_one_that_died(self) -> None:
        self.begin().die()
        self.assert_not_found(self.cancel(), 'none is running')
        self.assertEqual([], self.requests())

    def test_one_that_ends_by_itself(self) -> None:
        snapshot = self.begin(hears=False)
        make = CancelRequest.make

        def make_it_too_late(request: CancelRequest) -> None:
            make(request)
            snapshot.end()

        self.useFixture(
            fixtures.MockPatchObject(CancelRequest, 'make', make_it_too_late)
        )
        self.assert_not_found(self.cancel(), 'it ended by itself')
        self.assertEqual([], self.requests())

    def test_one_that_does_not_end(self) -> None:
        self.command.config.write_text('[snapshot]\ncancel_timeout = 1\n')
        self.begin(hears=False)
        result = self.cancel()
        self.assertEqual(1, result.status)
        error = result.json['error']
        self.assertEqual('hypervisor-timeout', error['code'])
        self.assertIn('cancel_timeout', error['message'])


class SnapshotTest(testtools.TestCase):
    """The driver's reaction to a request."""

    def setUp(self) -> None:
        super().setUp()
        self.command = self.useFixture(CommandLine())
        self.host = self.command.host
        self.request = CancelRequest(
            self.host.directories.state, documents.UUID
        )

    def create(self, *arguments: str) -> Result:
        return self.command.run(
            *('create', documents.NAME, '--format', 'json'),
            *('--output', str(self.host.root / 'web-1.qcow2'), *arguments),
        )

    def wait(self) -> None:
        assert self.host.data_plane.cancellation is not None
        self.host.data_plane.cancellation.sleep(PATIENCE)

    def test_cancelled(self) -> None:
        before = self.host.before()

        def cancel() -> None:
            timer = threading.Timer(0.01, self.request.make)
            timer.start()
            self.addCleanup(timer.join)
            self.wait()

        self.host.data_plane.at_extract = cancel
        result = self.create()
        self.assertEqual(130, result.status)
        self.assertEqual('cancelled-by-operator', result.json['error']['code'])
        self.assertEqual([], self.host.differences(before))

    def test_request_for_an_earlier_one(self) -> None:
        before = self.host.before()
        os.makedirs(self.host.directories.state)
        self.request.make()
        self.assertEqual(0, self.create().status)
        self.assertEqual([], self.host.differences(before))

    def test_deadline(self) -> None:
        before = self.host.before()
        self.host.data_plane.at_extract = self.wait
        result = self.create('--deadline', '1')
        self.assertEqual(1, result.status)
        error = result.json['error']
        self.assertEqual('deadline-exceeded', error['code'])
        self.assertEqual({'seconds': 1}, error['fields'])
        self.assertEqual([], self.host.differences(before))
