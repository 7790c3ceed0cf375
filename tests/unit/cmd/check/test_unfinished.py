# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pathlib
from unittest import mock

import ddt
import fixtures
import testtools

from nova_snapshot_driver.cmd.check import unfinished
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.common import private_files
from tests.unit import tables
from tests.unit.denied import Denied
from tests.unit.running_snapshot import RunningSnapshot

UUID = '6394328f-6cc1-4569-a037-1f1d0655a168'
OTHER = '7cd5a1b0-7f6a-4c29-9a3f-0d6d5fbb2f4e'


@ddt.ddt
class UnfinishedTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.directory = root / 'state'

    def found(self) -> dict[str, tuple[str, str]]:
        return {
            each.subject: (each.verdict.value, each.detail)
            for each in unfinished.findings(str(self.directory))
        }

    def write(self, *names: str) -> None:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        for name in names:
            (self.directory / name).write_text('')

    def test_no_directory(self) -> None:
        found = self.found()
        self.assertEqual(['Snapshots'], list(found))
        verdict, detail = found['Snapshots']
        self.assertEqual('SUCCESS', verdict)
        self.assertIn(f'there is no {self.directory}', detail)

    def test_nothing(self) -> None:
        self.write(f'{UUID}.lock', f'{UUID}.status', f'{UUID}.claim.lock')
        self.assertEqual(
            {'SUCCESS'}, {verdict for verdict, _ in self.found().values()}
        )

    @tables.rows(
        {
            'entry': (f'{UUID}.json',),
            'entry_beside_a_lock': (f'{UUID}.json', f'{UUID}.lock'),
            'set_aside': (f'{UUID}.json.unreadable',),
            'set_aside_twice': (f'{UUID}.json.unreadable.2',),
        }
    )
    def test_dead(self, name: str, *more: str) -> None:
        """No entry is empty, so one that says nothing has died too."""
        self.write(name, *more)
        found = self.found()
        self.assertEqual('SUCCESS', found['Snapshots'][0])
        verdict, detail = found['Dead snapshots']
        self.assertEqual('FAILURE', verdict)
        self.assertIn(str(self.directory / name), detail)

    def test_draft_of_an_entry(self) -> None:
        """An entry counts from its name on: nothing was taken before."""
        self.write(f'{UUID}.json.0011223344556677.draft')
        self.assertEqual('SUCCESS', self.found()['Dead snapshots'][0])

    def test_running(self) -> None:
        """The entry of a snapshot that runs is none of a dead one."""
        self.write(f'{UUID}.json', f'{OTHER}.json')
        self.useFixture(RunningSnapshot(str(self.directory), 'a', UUID))
        found = self.found()
        verdict, detail = found['Snapshots']
        self.assertEqual('FAILURE', verdict)
        self.assertIn(UUID, detail)
        self.assertNotIn(OTHER, detail)
        verdict, detail = found['Dead snapshots']
        self.assertEqual('FAILURE', verdict)
        self.assertIn(OTHER, detail)
        self.assertNotIn(UUID, detail)

    def test_claim_is_no_snapshot(self) -> None:
        """The owner of a domain holds its claim while destroying it."""
        self.write(f'{UUID}.lock', f'{UUID}.claim.lock')
        with mock.patch.object(
            private_files.Directory,
            'is_locked',
            autospec=True,
            side_effect=lambda _files, name: name.endswith('.claim.lock'),
        ):
            self.assertEqual('SUCCESS', self.found()['Snapshots'][0])

    def is_unknown(self) -> None:
        found = self.found()
        self.assertEqual(['Snapshots'], list(found))
        verdict, detail = found['Snapshots']
        self.assertEqual('FAILURE', verdict)
        self.assertTrue(detail.startswith(NOT_KNOWN))
        self.assertIn(str(self.directory), detail)

    def test_written_by_others(self) -> None:
        self.write()
        self.directory.chmod(0o777)
        self.is_unknown()

    def test_no_directory_but_a_file(self) -> None:
        self.directory.write_text('')
        self.is_unknown()

    @tables.rows({'look': (0,), 'list': (0o111,)})
    def test_not_for_this_user(self, mode: int) -> None:
        self.write()
        self.useFixture(Denied(self.directory, mode))
        self.is_unknown()
