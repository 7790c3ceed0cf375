# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pathlib

import ddt
import fixtures
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.cmd.check import nova_files
from nova_snapshot_driver.cmd.check.nova_files import NovaFile
from tests.unit import tables


@ddt.ddt
class NovaFilesTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.useFixture(
            fixtures.MockPatchObject(
                api_paste, 'USUAL_DIRECTORY', str(self.root / 'usual')
            )
        )

    def write(self, name: str, content: bytes = b'') -> str:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return str(path)

    def test_known(self) -> None:
        given = self.write('given/mine.conf')
        others = [
            self.write('given/nova.conf'),
            self.write('given/nova-compute.conf'),
            self.write('usual/nova.conf'),
            self.write('usual/nova-compute.conf'),
        ]
        self.write('usual/logging.conf')
        self.assertEqual(
            [given, *others], nova_files.known(conf.load([given]))
        )

    def test_directory_of_files(self) -> None:
        read = self.write('nova.conf.d/b.conf')
        self.write('nova.conf.d/b.conf.old')
        loaded = conf.load([])
        loaded(['--config-dir', str(self.root / 'nova.conf.d')], project='no')
        self.assertEqual([read], nova_files.known(loaded))

    def test_file_with_two_names(self) -> None:
        given = self.write('given/nova.conf')
        (self.root / 'usual').symlink_to('given')
        self.assertEqual(1, len(nova_files.known(conf.load([given]))))

    def test_values(self) -> None:
        path = self.write('nova.conf', b'[DEFAULT]\na = 1\na = 2\n[b]\n')
        file = NovaFile.read(path)
        self.assertEqual(['1', '2'], file.values('DEFAULT', 'a'))
        self.assertEqual((), file.values('b', 'a'))
        self.assertEqual((), file.values('c', 'a'))
        self.assertIn('b', file.sections)

    @tables.rows(
        {'no_ini': (b'a = 1\n',), 'no_text': (b'[DEFAULT]\na = \xff\n',)}
    )
    def test_unreadable(self, content: bytes) -> None:
        path = self.write('nova.conf', content)
        error = self.assertRaises(
            exception.ConfigurationInvalid, NovaFile.read, path
        )
        self.assertIn(path, str(error))
