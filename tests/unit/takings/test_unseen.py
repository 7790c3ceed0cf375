# SPDX-License-Identifier: Apache-2.0
"""Files of a dead snapshot that this process may not look at."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings import temporary_files
from tests.unit import documents
from tests.unit.denied import Denied
from tests.unit.entries import taken
from tests.unit.host import FakeHost


class UnseenTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.snapshots = self.host.directories.snapshots
        os.makedirs(self.snapshots)

    @contextlib.contextmanager
    def unlistable(self) -> Iterator[None]:
        """The snapshots directory can be written, and not listed."""
        listdir = os.listdir

        def refuse(path: Any = '.') -> list[str]:
            if path == self.snapshots:
                raise PermissionError(
                    errno.EACCES, 'Permission denied', self.snapshots
                )
            return listdir(path)

        with fixtures.MonkeyPatch('os.listdir', refuse):
            yield

    def die(self, *directories: str) -> pathlib.Path:
        """Leave a file of a snapshot.

        :param directories: the ones that its journal names
        """
        definition = self.host.guest().definition()
        Journal(self.host.directories.state).remember(
            taken(definition, directories=directories)
        )
        left = pathlib.Path(self.snapshots, f'{documents.UUID}-x1y2z3')
        left.mkdir()
        return left

    def heal(self) -> list[exception.SnapshotError]:
        outcomes = self.host.healer().heal(self.host.context)
        return [error for outcome in outcomes for error in outcome.errors]

    def test_next_snapshot_of_a_domain_that_has_lost_nothing(self) -> None:
        before = self.host.before()
        with self.unlistable():
            self.host.snapshot()
        self.assertEqual([], self.host.differences(before))
        self.assertIn('cannot be listed', self.host.log.output)

    def test_next_snapshot_of_a_domain_that_has_lost_something(self) -> None:
        left = self.die(self.snapshots)
        with self.unlistable():
            error = self.assertRaises(exception.UndoFailed, self.host.snapshot)
        self.assertIn(self.snapshots, str(error))
        self.assertIn('nova-snapshot recover', str(error))
        self.assertTrue(left.exists())

    def test_journal_does_not_forget(self) -> None:
        left = self.die(self.snapshots)
        with self.unlistable():
            (error,) = self.heal()
        self.assertIsInstance(error, exception.UndoFailed)
        self.assertTrue(left.exists())
        # Somebody who may look does it.
        self.assertEqual([], self.heal())
        self.assertFalse(left.exists())

    def test_directory_that_the_kernel_shuts(self) -> None:
        with Denied(self.snapshots):
            self.assertRaises(
                PermissionError,
                temporary_files.abandoned,
                self.snapshots,
                documents.UUID,
            )
            # The taking says so, and nobody is in the way.
            temporary_files.tell_litter(self.snapshots, documents.UUID)

    def test_directory_that_is_missing(self) -> None:
        missing = os.path.join(self.snapshots, 'missing')
        self.assertEqual([], temporary_files.abandoned(missing, 'a'))

    def test_name_of_the_uuid_is_no_pattern(self) -> None:
        self.die()
        self.assertEqual([], temporary_files.abandoned(self.snapshots, '*'))

    def test_file_that_can_not_be_seen_to_be_gone(self) -> None:
        left = self.die()
        with Denied(self.snapshots):
            temporary_files.remove(str(left))
        self.assertIn('could not be removed', self.host.log.output)


class DraftTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.directory = self.host.root / 'backup'
        self.directory.mkdir()
        self.draft = self.directory / 'web-1.qcow2.0a1b2c3d.part'
        self.draft.touch()
        definition = self.host.guest().definition()
        Journal(self.host.directories.state).remember(
            taken(definition, draft=str(self.draft))
        )

    def test_journal_does_not_forget(self) -> None:
        lstat = os.lstat

        def refuse(path: Any, **how: Any) -> os.stat_result:
            if path == str(self.draft):
                raise PermissionError(errno.EACCES, 'Permission denied', path)
            return lstat(path, **how)

        with fixtures.MonkeyPatch('os.lstat', refuse):
            (outcome,) = self.host.healer().heal(self.host.context)
        (error,) = outcome.errors
        self.assertEqual('undo-failed', error.code)
        self.assertIn(str(self.draft), str(error))
        (outcome,) = self.host.healer().heal(self.host.context)
        self.assertEqual([], outcome.errors)
        self.assertFalse(self.draft.exists())
