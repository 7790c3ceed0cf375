# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib

import fixtures
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.progress import silent
from nova_snapshot_driver.target import GlanceImage
from nova_snapshot_driver.target import OutputFile
from nova_snapshot_driver.transfer.process import Limits
from nova_snapshot_driver.workspace import Workspace
from tests.unit.host import FakeHost


class GlanceImageTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.target = GlanceImage(
            self.host.conf, self.host.context, self.host.image
        )

    def test_deleted_after_a_failure(self) -> None:
        with (
            testtools.ExpectedException(KeyError),
            self.target.discarded_on_failure(),
        ):
            raise KeyError
        self.assertNotIn(self.host.image, self.host.glance.images)

    def test_left_alone_where_there_is_no_way_to_it(self) -> None:
        """Whoever has made the record may know another one."""
        with (
            testtools.ExpectedException(exception.NotSupported),
            self.target.discarded_on_failure(),
        ):
            raise exception.NotSupported(domain='web-1', reason='-')
        self.assertIn(self.host.image, self.host.glance.images)
        self.assertEqual(0, self.host.context.accesses)

    def test_every_look_is_with_tokens_that_are_valid_then(self) -> None:
        self.target.check()
        self.target.check()
        self.assertEqual(
            ['t0ken-1', 't0ken-2'],
            [
                request.headers['X-Auth-Token']
                for request in self.host.glance.requests
                if request.path.endswith(self.host.image)
            ],
        )


class OutputFileTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.path = self.root / 'image.qcow2'
        self.target = self.output(self.path)

    def output(self, path: pathlib.Path) -> OutputFile:
        return OutputFile(conf.load([]), str(path))

    @property
    def draft(self) -> pathlib.Path:
        return pathlib.Path(self.target.staging(Workspace('/nowhere')))

    def receive(self) -> int:
        proof = self.target.receive(
            str(self.draft), {}, Limits(), silent, Cancellation()
        )
        self.assertIsNone(proof.sha512)
        return proof.size

    def test_draft_is_beside_the_file(self) -> None:
        """So that it gets its name without a copy."""
        self.assertEqual(self.root, self.draft.parent)
        self.assertNotEqual(self.path, self.draft)
        self.assertEqual(self.draft, self.draft)

    def test_receive(self) -> None:
        with self.target.discarded_on_failure():
            self.target.check()
            self.draft.write_text('image')
            self.assertEqual(5, self.receive())
        self.assertEqual(['image.qcow2'], os.listdir(self.root))
        self.assertEqual('image', self.path.read_text())

    def test_file_that_appears_meanwhile_is_not_replaced(self) -> None:
        def run() -> None:
            with self.target.discarded_on_failure():
                self.target.check()
                self.draft.write_text('image')
                self.path.write_text('precious')
                self.receive()

        self.assertRaises(exception.OutputExists, run)
        self.assertEqual('precious', self.path.read_text())
        self.assertEqual(['image.qcow2'], os.listdir(self.root))

    def test_link_to_nowhere_is_not_replaced(self) -> None:
        self.path.symlink_to(self.root / 'missing')
        self.assertRaises(exception.OutputExists, self.target.check)

    def test_draft_is_discarded(self) -> None:
        with (
            testtools.ExpectedException(KeyError),
            self.target.discarded_on_failure(),
        ):
            self.draft.touch()
            raise KeyError
        self.assertEqual([], os.listdir(self.root))

    def test_directory_is_missing(self) -> None:
        target = self.output(self.root / 'missing' / 'image')
        error = self.assertRaises(exception.DirectoryUnusable, target.check)
        self.assertIn('--output', str(error))
