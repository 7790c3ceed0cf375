# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib
import stat
import types

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver import workspace
from nova_snapshot_driver.workspace import MIB
from nova_snapshot_driver.workspace import Workspace

UUID = '8a6f3f5e-2c0e-4a53-9d31-6b1a52b0f0c4'


class WorkspaceTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        temporary = self.useFixture(fixtures.TempDir()).path
        self.root = pathlib.Path(temporary) / 'snapshots'

    def test_lives_as_long_as_the_context(self) -> None:
        with Workspace.open(str(self.root), UUID) as space:
            pathlib.Path(space.file('delta')).write_text('data')
            (found,) = self.root.iterdir()
            self.assertEqual(str(found), space.path)
            self.assertTrue(found.name.startswith(f'{UUID}-'))
            self.assertEqual(['delta'], os.listdir(found))
        self.assertEqual([], os.listdir(self.root))

    def test_qemu_gets_in_and_sees_nothing(self) -> None:
        with Workspace.open(str(self.root), UUID) as space:
            mode = stat.S_IMODE(os.stat(space.path).st_mode)
            self.assertEqual(0o701, mode)

    def test_removed_after_an_error(self) -> None:
        with (
            testtools.ExpectedException(KeyError),
            Workspace.open(str(self.root), UUID) as space,
        ):
            pathlib.Path(space.file('image')).touch()
            raise KeyError
        self.assertEqual([], os.listdir(self.root))

    def test_two_of_one_domain(self) -> None:
        with (
            Workspace.open(str(self.root), UUID) as one,
            Workspace.open(str(self.root), UUID) as other,
        ):
            self.assertNotEqual(one.path, other.path)

    def test_unusable_directory(self) -> None:
        self.root.touch()
        with (
            testtools.ExpectedException(
                exception.DirectoryUnusable,
                r'.*\[libvirt\] snapshots_directory.*',
            ),
            Workspace.open(str(self.root / 'below'), UUID),
        ):
            pass

    def test_remove_abandoned(self) -> None:
        root = self.root / '[with] *'
        for name in (f'{UUID}-abc', f'{UUID}-def', 'other-abc', UUID):
            (root / name).mkdir(parents=True)
            (root / name / 'delta').touch()
        workspace.remove_abandoned(str(root), UUID)
        self.assertEqual({UUID, 'other-abc'}, set(os.listdir(root)))


class RequireSpaceTest(testtools.TestCase):
    """On file systems of 100 MiB each."""

    FREE = 100 * MIB

    def setUp(self) -> None:
        super().setUp()
        self.devices = {'/a': 1, '/a2': 1, '/b': 2}
        self.useFixture(
            fixtures.MockPatchObject(
                workspace,
                'os',
                types.SimpleNamespace(
                    stat=lambda path: types.SimpleNamespace(
                        st_dev=self.devices[path]
                    ),
                    statvfs=lambda path: types.SimpleNamespace(
                        f_bavail=self.FREE // 4096, f_frsize=4096
                    ),
                ),
            )
        )

    def require(self, *needs: tuple[str, int]) -> None:
        workspace.require_space('web-1', needs)

    def test_enough(self) -> None:
        self.require(('/a', 60 * MIB), ('/b', 60 * MIB))

    def test_needs_of_one_file_system_are_added_up(self) -> None:
        error = self.assertRaises(
            exception.NoSpace,
            self.require,
            ('/a', 60 * MIB),
            ('/a2', 60 * MIB),
        )
        self.assertEqual(
            {
                'domain': 'web-1',
                'directory': '/a2',
                'available': 100,
                'required': 126,
                'option': '[libvirt] snapshots_directory',
            },
            error.fields,
        )

    def test_margin(self) -> None:
        self.require(('/a', 95 * MIB))
        error = self.assertRaises(
            exception.NoSpace, self.require, ('/a', 96 * MIB)
        )
        # 100.8 MiB, and not what it would be rounded down to.
        self.assertEqual(101, error.fields['required'])

    def test_nothing_is_needed(self) -> None:
        self.require(('/a', 0))


class FreeBytesTest(testtools.TestCase):
    def test_real_file_system(self) -> None:
        path = self.useFixture(fixtures.TempDir()).path
        status = os.statvfs(path)
        # What is kept for root does not count.
        most = status.f_blocks * status.f_frsize
        self.assertTrue(0 < workspace.free_bytes(path) <= most)
