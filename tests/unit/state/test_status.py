# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import stat
import threading
from collections.abc import Iterator

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.state import status
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.state.status import Status
from nova_snapshot_driver.state.workspace import MIB
from tests.unit import documents
from tests.unit import tables
from tests.unit.running_snapshot import RunningSnapshot

GIB = 1 << 30

BEGIN = Status(documents.NAME, documents.UUID, ('an-image',), (), 'mirror')


class StatusCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.path = self.directory / f'{documents.UUID}.status'
        self.log = self.useFixture(fixtures.FakeLogger(level=logging.INFO))
        # Nobody else may read it, whatever the umask of a service is.
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)


class ReportCase(StatusCase):
    """A snapshot whose time stands still, unless it is moved on."""

    def setUp(self) -> None:
        super().setUp()
        self.now = 5000.0
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.state.status.time.monotonic',
                lambda: self.now,
            )
        )

    @contextlib.contextmanager
    def reported(self, progress: Progress = silent) -> Iterator[Progress]:
        with status.reported(str(self.directory), BEGIN, progress) as report:
            yield report

    def written(self) -> Status:
        return Status.from_json(self.path.read_text())

    def logged(self) -> list[str]:
        return self.log.output.splitlines()


class StatusFileTest(ReportCase):
    def test_as_long_as_the_snapshot_runs(self) -> None:
        with self.reported():
            self.assertEqual(BEGIN, self.written())
            self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))
        self.assertEqual([], os.listdir(self.directory))

    def test_removed_after_a_failure(self) -> None:
        with testtools.ExpectedException(KeyError), self.reported():
            raise KeyError
        self.assertEqual([], os.listdir(self.directory))

    def test_progress(self) -> None:
        with self.reported() as report:
            report('upload', 0, GIB)
            self.now += 4
            report('upload', GIB // 4, GIB)
            written = self.written()
        self.assertEqual('upload', written.step)
        self.assertEqual((GIB // 4, GIB), (written.done, written.total))
        self.assertEqual(25, written.percent)
        self.assertEqual(64 * MIB, written.rate)
        self.assertEqual(12, written.seconds_left)

    def test_progress_that_is_not_counted_in_bytes(self) -> None:
        with self.reported() as report:
            report('extract', 0, 10000)
            self.now += 10
            report('extract', 2500, 10000)
            written = self.written()
        self.assertEqual(25, written.percent)
        self.assertIsNone(written.rate)
        self.assertEqual(30, written.seconds_left)

    def test_nothing_to_be_done(self) -> None:
        with self.reported() as report:
            report('upload', 0, 0)
            self.assertEqual(100, self.written().percent)
            self.assertIsNone(self.written().seconds_left)

    def test_upload_that_begins_anew(self) -> None:
        """The speed is that of the new attempt."""
        with self.reported() as report:
            report('upload', 0, GIB)
            self.now += 60
            report('upload', GIB // 2, GIB)
            self.now += 60
            report('upload', 0, GIB)
            self.now += 1
            report('upload', MIB, GIB)
            self.assertEqual(MIB, self.written().rate)

    def test_written_once_a_second(self) -> None:
        with self.reported() as report:
            report('upload', 1, GIB)
            self.now += 0.9
            report('upload', 2, GIB)
            self.assertEqual(1, self.written().done)
            self.now += 0.1
            report('upload', 3, GIB)
            self.assertEqual(3, self.written().done)

    def test_step_is_written_at_once(self) -> None:
        with self.reported() as report:
            report('copy', 1, 2)
            self.assertEqual('copy', self.written().step)
            report('copy', 2, 2)
            self.assertEqual(100, self.written().percent)
            report('extract', 1, 2)
            self.assertEqual('extract', self.written().step)

    def test_never_half_written(self) -> None:
        replaced: list[Status] = []
        rename = os.rename

        def look(draft: str, name: str, **where: int) -> None:
            text = (self.directory / draft).read_text()
            replaced.append(Status.from_json(text))
            rename(draft, name, **where)

        self.useFixture(fixtures.MockPatch('os.rename', look))
        with self.reported() as report:
            report('copy', 1, 2)
        self.assertEqual([None, 'copy'], [each.step for each in replaced])

    def test_directory_that_is_full(self) -> None:
        """The snapshot goes on, and the log says it once."""
        self.useFixture(
            fixtures.MockPatch(
                'os.rename', side_effect=OSError(28, 'No space left')
            )
        )
        with self.reported() as report:
            report('copy', 1, 2)
            report('copy', 2, 2)
        self.assertEqual(1, self.log.output.count('No space left'))
        self.assertEqual([], os.listdir(self.directory))

    def test_directory_that_is_gone(self) -> None:
        with self.reported() as report:
            os.unlink(self.path)
            os.rmdir(self.directory)
            report('copy', 1, 2)
        self.assertIn('will not be right', self.log.output)

    def test_several_threads(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(status, 'WRITE_INTERVAL', 0.0)
        )
        with self.reported() as report:

            def work() -> None:
                for done in range(100):
                    report('stream', done, 100)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual('stream', self.written().step)
        self.assertNotIn('will not be right', self.log.output)


class DoorTest(ReportCase):
    def test_who_has_asked_hears_all_of_it(self) -> None:
        heard: list[tuple[str, int, int]] = []
        with self.reported(lambda *what: heard.append(what)) as report:
            report('copy', 1, 2)
            report('copy', 2, 2)
            report('upload', 1, 1)
        self.assertEqual(
            [('copy', 1, 2), ('copy', 2, 2), ('upload', 1, 1)], heard
        )


class LogTest(ReportCase):
    def test_begin_and_end(self) -> None:
        with self.reported() as report:
            report('upload', 0, GIB)
            self.now += 30
            report('upload', GIB // 2, GIB)
            self.now += 2
            report('upload', GIB, GIB)
            report('upload', GIB, GIB)
        self.assertEqual(
            [
                f'Snapshot of domain {documents.NAME}: {words} '
                f'[event=snapshot.progress step=upload percent={percent}]'
                for percent, words in (
                    (0, 'upload, 0 % of 1024 MiB'),
                    (100, 'upload, 100 % of 1024 MiB, 32.0 MiB/s, 0 s left'),
                )
            ],
            self.logged(),
        )

    def test_time_and_progress_have_to_be_enough(self) -> None:
        with self.reported() as report:
            report('upload', 0, 100 * MIB)
            self.now += 59
            report('upload', 50 * MIB, 100 * MIB)
            self.assertEqual(1, len(self.logged()))
            self.now += 1
            report('upload', 51 * MIB, 100 * MIB)
            self.assertEqual(2, len(self.logged()))
            self.now += 3600
            report('upload', 60 * MIB, 100 * MIB)
            self.assertEqual(2, len(self.logged()))
            report('upload', 61 * MIB, 100 * MIB)
            self.assertEqual(3, len(self.logged()))
        self.assertIn('upload, 51 % of 100 MiB', self.logged()[1])

    def test_attempt_that_begins_anew(self) -> None:
        with self.reported() as report:
            report('upload', 2, 4)
            report('upload', 1, 4)
        self.assertEqual(2, len(self.logged()))

    def test_instance_is_named_to_nova(self) -> None:
        logged = self.useFixture(
            fixtures.MockPatchObject(status, 'LOG')
        ).mock.info
        with self.reported() as report:
            report('upload', 0, GIB)
        self.assertEqual(
            documents.UUID, logged.call_args.kwargs['instance_uuid']
        )


@ddt.ddt
class RunningTest(StatusCase):
    def running(self) -> tuple[Status, ...]:
        listing = status.running(str(self.directory))
        self.assertEqual((), listing.unreadable)
        return listing.found

    def begin(self, uuid: str = documents.UUID) -> RunningSnapshot:
        return self.useFixture(
            RunningSnapshot(str(self.directory), documents.NAME, uuid)
        )

    def test_none(self) -> None:
        self.assertEqual((), self.running())

    def test_directory_is_not_made(self) -> None:
        """By root it would be nobody's that Nova runs as."""
        missing = self.directory / 'missing'
        self.assertRaises(
            exception.StateDirectoryMissing, status.running, str(missing)
        )
        self.assertFalse(missing.exists())

    def test_all_that_run(self) -> None:
        snapshots = {
            uuid: self.begin(uuid) for uuid in (documents.UUID, 'another')
        }
        found = {each.uuid: each for each in self.running()}
        self.assertEqual(snapshots.keys(), found.keys())
        for uuid, each in found.items():
            self.assertEqual(snapshots[uuid].process.pid, each.pid)
            self.assertEqual('upload', each.step)
            self.assertEqual(25, each.percent)

    def test_ended(self) -> None:
        self.begin().end()
        self.assertEqual((), self.running())

    def test_died(self) -> None:
        self.begin().die()
        self.assertTrue(self.path.exists())
        self.assertEqual((), self.running())
        # The next one cleans up.
        with Journal(str(self.directory)).exclusive(documents.UUID, '-'):
            self.assertFalse(self.path.exists())

    @tables.rows(
        {
            'torn': ('{"version": 1, "doma',),
            'empty': ('',),
            'no_object': ('[]',),
            'other_version': (BEGIN.to_json().replace('1', '2', 1),),
            'stranger': (BEGIN.to_json().replace('path', 'way'),),
        }
    )
    def test_unreadable(self, content: str) -> None:
        """Other files are shown all the same."""
        self.begin()
        self.begin('a')
        path = self.directory / 'a.status'
        path.write_text(content)
        found = status.running(str(self.directory))
        self.assertEqual([documents.UUID], [each.uuid for each in found.found])
        (error,) = found.unreadable
        self.assertEqual(str(path), error.fields['path'])

    def test_unreadable_one_of_a_snapshot_that_died(self) -> None:
        """The file means nothing, and the next snapshot removes it."""
        (self.directory / 'a.status').write_text('{')
        self.assertEqual((), self.running())

    def test_json(self) -> None:
        self.assertEqual(BEGIN, Status.from_json(BEGIN.to_json()))
        fields = json.loads(BEGIN.to_json())
        fields.pop('version')
        self.assertEqual(
            {**dataclasses.asdict(BEGIN), 'images': ['an-image'], 'files': []},
            fields,
        )

    def test_single_image_has_a_field_of_its_own(self) -> None:
        fields = BEGIN.to_dict()
        self.assertEqual('an-image', fields['image'])
        self.assertIsNone(fields['file'])

    def test_several_files_have_none(self) -> None:
        several = dataclasses.replace(BEGIN, images=(), files=('/a', '/b'))
        fields = several.to_dict()
        self.assertIsNone(fields['file'])
        self.assertEqual(('/a', '/b'), fields['files'])
