# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import subprocess
import types

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.state import workspace
from nova_snapshot_driver.state.workspace import MIB
from nova_snapshot_driver.state.workspace import Need
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.takings import temporary_files

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
            self.assertEqual(0o711, mode)

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
        temporary_files.remove_abandoned(str(root), UUID)
        self.assertEqual({UUID, 'other-abc'}, set(os.listdir(root)))


class SocketDirectoryTest(testtools.TestCase):
    """QEMU may have in it what it likes."""

    def setUp(self) -> None:
        super().setUp()
        temporary = self.useFixture(fixtures.TempDir()).path
        self.root = pathlib.Path(temporary)
        self.log = self.useFixture(fixtures.FakeLogger())

    def socket_directory(self) -> contextlib.AbstractContextManager[str]:
        return workspace.socket_directory(str(self.root), UUID)

    def test_gone_with_its_socket(self) -> None:
        with self.socket_directory() as path:
            self.assertEqual(0o700, stat.S_IMODE(os.stat(path).st_mode))
            pathlib.Path(path, temporary_files.SOCKET).touch()
        self.assertEqual([], list(self.root.iterdir()))
        self.assertEqual('', self.log.output)

    def test_another_one_each_time(self) -> None:
        with self.socket_directory() as one, self.socket_directory() as other:
            self.assertNotEqual(one, other)

    def test_longest_name(self) -> None:
        """The length that ``LONGEST_SOCKET`` and the lab go by."""
        with self.socket_directory() as path:
            name = os.path.basename(path)
        self.assertEqual(len(f'libvirt-{UUID}.XXXXXXXX'), len(name))

    def litter(self) -> str:
        """A directory as a QEMU has left it that has been got hold of."""
        with self.socket_directory() as path:
            pathlib.Path(path, temporary_files.SOCKET).touch()
            # Too deep for a removal that goes down one by one.
            deep = os.open(path, os.O_RDONLY)
            for _level in range(2000):
                os.mkdir('x', dir_fd=deep)
                deeper = os.open('x', os.O_RDONLY, dir_fd=deep)
                os.close(deep)
                deep = deeper
            os.close(deep)
        self.addCleanup(subprocess.run, ['rm', '-r', path], check=False)
        return path

    def test_litter_is_told_with_the_remedy(self) -> None:
        path = self.litter()
        self.assertIn('as the user', self.log.output)
        self.assertIn(f'"rm -r {path}"', self.log.output)

    def test_litter_is_in_nobodys_way(self) -> None:
        path = self.litter()
        self.assertEqual([], temporary_files.abandoned(str(self.root), UUID))
        self.assertEqual(
            [], temporary_files.remove_abandoned(str(self.root), UUID)
        )
        with self.socket_directory() as other:
            self.assertNotEqual(path, other)

    def test_litter_of_a_dead_snapshot_is_told(self) -> None:
        path = self.litter()
        log = self.useFixture(fixtures.FakeLogger())
        temporary_files.tell_litter(str(self.root), UUID)
        self.assertIn(f'"rm -r {path}"', log.output)

    def test_abandoned(self) -> None:
        """Directories of earlier versions had another name."""
        for name in (f'{UUID}.nbd', f'libvirt-{UUID}.a1b2c3d4'):
            (self.root / name).mkdir()
            (self.root / name / temporary_files.SOCKET).touch()
        self.assertEqual(
            2, len(temporary_files.abandoned(str(self.root), UUID))
        )
        self.assertEqual(
            [], temporary_files.remove_abandoned(str(self.root), UUID)
        )
        self.assertEqual([], list(self.root.iterdir()))
        temporary_files.tell_litter(str(self.root), UUID)
        self.assertEqual('', self.log.output)


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
        workspace.require_space(
            'web-1',
            [
                Need(Place(directory, f'option of {directory}'), size)
                for directory, size in needs
            ],
        )

    def test_enough(self) -> None:
        self.require(('/a', 60 * MIB), ('/b', 60 * MIB))

    def test_needs_of_one_file_system_are_added_up(self) -> None:
        error = self.assertRaises(
            exception.NoSpace,
            self.require,
            ('/a', 59 * MIB),
            ('/a2', 61 * MIB),
        )
        self.assertEqual(
            {
                'domain': 'web-1',
                'directory': '/a2',
                'available': 100,
                'required': 126,
                'option': 'option of /a2',
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
        # The reserve for root does not count.
        most = status.f_blocks * status.f_frsize
        self.assertTrue(0 < workspace.free_bytes(path) <= most)
