# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.snapshot.destination.output_file import OutputFile
from tests.unit import documents
from tests.unit.denied import Denied


class OutputFileTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.path = self.root / 'image.qcow2'
        self.destination = self.output(self.path)

    def output(self, path: pathlib.Path) -> OutputFile:
        return OutputFile(documents.NAME, str(path))

    @property
    def draft(self) -> pathlib.Path:
        return pathlib.Path(self.destination.draft)

    def receive(self) -> int:
        proof = self.destination.receive(
            str(self.draft), {}, silent, Cancellation()
        )
        self.assertIsNone(proof.sha512)
        return proof.size

    def test_draft_is_beside_the_file(self) -> None:
        """A draft beside the file gets its name without a copy."""
        self.assertEqual(self.root, self.draft.parent)
        self.assertNotEqual(self.path, self.draft)
        self.assertEqual(self.draft, self.draft)

    def test_draft_of_a_long_name(self) -> None:
        self.destination = self.output(self.root / ('я' * 127))
        self.draft.touch()
        self.assertEqual(self.root, self.draft.parent)
        self.assertRegex(self.draft.name, r'^я+\.[0-9a-f]{8}\.part$')

    def test_two_drafts_of_a_long_name(self) -> None:
        names = [self.output(self.root / ('x' * n)).draft for n in (254, 255)]
        self.assertNotEqual(*names)

    def test_name_that_is_too_long(self) -> None:
        destination = self.output(self.root / ('x' * 256))
        error = self.assertRaises(exception.OutputUnusable, destination.check)
        self.assertIn('File name too long', str(error))
        with destination.discarded_on_failure():
            pass

    def test_receive(self) -> None:
        with self.destination.discarded_on_failure():
            self.destination.check()
            self.draft.write_text('image')
            self.assertEqual(5, self.receive())
        self.assertEqual(['image.qcow2'], os.listdir(self.root))
        self.assertEqual('image', self.path.read_text())

    def test_file_that_appears_meanwhile_is_not_replaced(self) -> None:
        def run() -> None:
            with self.destination.discarded_on_failure():
                self.destination.check()
                self.draft.write_text('image')
                self.path.write_text('precious')
                self.receive()

        self.assertRaises(exception.OutputExists, run)
        self.assertEqual('precious', self.path.read_text())
        self.assertEqual(['image.qcow2'], os.listdir(self.root))

    def test_link_to_nowhere_is_not_replaced(self) -> None:
        self.path.symlink_to(self.root / 'missing')
        self.assertRaises(exception.OutputExists, self.destination.check)

    def test_draft_is_discarded(self) -> None:
        with (
            testtools.ExpectedException(KeyError),
            self.destination.discarded_on_failure(),
        ):
            self.draft.touch()
            raise KeyError
        self.assertEqual([], os.listdir(self.root))

    def test_draft_that_stays(self) -> None:
        """The error is one after which the journal knows of it."""

        def run() -> None:
            with self.destination.discarded_on_failure():
                self.draft.mkdir()
                raise KeyError

        error = self.assertRaises(exception.UndoFailed, run)
        self.assertEqual(f'remove {self.draft}', error.fields['undo'])
        self.assertEqual('Is a directory', error.fields['reason'])

    def test_draft_that_can_not_be_seen(self) -> None:
        """The directory was shut while the snapshot was taken."""
        self.destination.check()
        self.draft.touch()

        def run() -> None:
            with self.destination.discarded_on_failure():
                raise KeyError

        with Denied(self.root):
            error = self.assertRaises(exception.UndoFailed, run)
        self.assertEqual('Permission denied', error.fields['reason'])

    def test_directory_that_was_shut_before(self) -> None:
        """The error of the check stands: there is no draft."""

        def run() -> None:
            with self.destination.discarded_on_failure():
                raise KeyError

        with Denied(self.root):
            self.assertRaises(KeyError, run)

    def test_directory_is_missing(self) -> None:
        destination = self.output(self.root / 'missing' / 'image')
        error = self.assertRaises(
            exception.DirectoryUnusable, destination.check
        )
        self.assertIn('--output', str(error))
