# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Callable

import ddt
import fixtures
import testtools

from nova_snapshot_driver.common import ownership
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.ownership import Kind
from tests.unit import tables

US = os.geteuid()
OTHER = US + 1


def make_socket(path: pathlib.Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def _link(path: pathlib.Path) -> None:
    make_socket(path.parent.parent / 'other')
    os.link(path.parent.parent / 'other', path)


#: The things that may be where a socket is expected, and the error for each.
STRANGERS: dict[str, tuple[Callable[[pathlib.Path], object], str]] = {
    'symbolic_link': (
        lambda path: path.symlink_to('/etc/passwd'),
        'it is a symbolic link',
    ),
    'link_to_nowhere': (
        lambda path: path.symlink_to('/nowhere'),
        'it is a symbolic link',
    ),
    'hard_link': (_link, 'it has 2 names'),
    'file': (lambda path: path.touch(), 'it is a regular file'),
    'directory': (lambda path: path.mkdir(), 'it is a directory'),
    'named_pipe': (lambda path: os.mkfifo(path), 'it is a named pipe'),
    'nothing': (lambda path: None, 'No such file or directory'),
}


class OwnershipCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.directory = self.root / 'of the socket'
        self.directory.mkdir()
        self.path = self.directory / 's'

    def inspect(
        self, *owners: int, kind: Kind = Kind.SOCKET, claimant: int = US
    ) -> os.stat_result:
        return ownership.inspect(
            str(self.path), kind, owners or (US,), claimant
        )

    def refused(
        self, *owners: int, kind: Kind = Kind.SOCKET, claimant: int = US
    ) -> str:
        error = self.assertRaises(
            OSError,
            lambda: self.inspect(*owners, kind=kind, claimant=claimant),
        )
        return str(error.strerror)


@ddt.ddt
class InspectTest(OwnershipCase):
    """The files that QEMU was to put in its directory."""

    def test_socket(self) -> None:
        make_socket(self.path)
        self.assertEqual(os.stat(self.path), self.inspect())

    def test_file(self) -> None:
        self.path.touch()
        self.assertEqual(os.stat(self.path), self.inspect(kind=Kind.FILE))

    @tables.rows(STRANGERS)
    def test_stranger(
        self, make: Callable[[pathlib.Path], object], said: str
    ) -> None:
        make(self.path)
        self.assertIn(said, self.refused())

    def test_socket_in_place_of_a_file(self) -> None:
        make_socket(self.path)
        self.assertIn('it is a socket', self.refused(kind=Kind.FILE))

    def test_other_owner(self) -> None:
        make_socket(self.path)
        self.assertEqual(
            f'it belongs to the user {US}', self.refused(OTHER, claimant=US)
        )

    def test_directory_is_a_link(self) -> None:
        elsewhere = self.root / 'elsewhere'
        elsewhere.mkdir()
        make_socket(elsewhere / 's')
        self.directory.rmdir()
        self.directory.symlink_to(elsewhere)
        self.assertIn('its directory is a symbolic link', self.refused())

    def test_directory_of_somebody_else(self) -> None:
        make_socket(self.path)
        self.assertIn(
            f'its directory belongs to the user {US}',
            self.refused(OTHER, claimant=OTHER),
        )

    def test_anybody_may_replace_the_directory(self) -> None:
        make_socket(self.path)
        self.root.chmod(0o777)
        self.assertIn('anybody may replace', self.refused())
        # Nobody but its owner may, and that is this user.
        self.root.chmod(0o1777)
        self.inspect()
        # The owner of the directory is QEMU.
        self.assertIn('anybody may replace', self.refused(US, claimant=OTHER))

    def test_directory_above_is_reached_by_a_link(self) -> None:
        """An operator may have the snapshots elsewhere."""
        make_socket(self.path)
        (self.root / 'link').symlink_to('.')
        self.path = self.root / 'link' / self.directory.name / 's'
        self.inspect()

    def test_no_descriptor_is_left(self) -> None:
        before = os.listdir('/proc/self/fd')
        self.path.symlink_to('/etc/passwd')
        self.refused()
        self.assertEqual(len(before), len(os.listdir('/proc/self/fd')))


class ClaimTest(OwnershipCase):
    def test_replaced_since_it_was_looked_at(self) -> None:
        make_socket(self.path)
        inode = Inode.of(self.inspect())
        other = self.directory / 'other'
        make_socket(other)
        other.rename(self.path)
        error = self.assertRaises(
            OSError,
            lambda: ownership.claim(
                str(self.path), Kind.SOCKET, (US,), US, inode
            ),
        )
        self.assertIn('replaced', str(error))

    def test_ours(self) -> None:
        make_socket(self.path)
        inode = Inode.of(self.inspect())
        ownership.claim(str(self.path), Kind.SOCKET, (US,), US, inode)
        self.assertEqual(US, os.stat(self.path).st_uid)


class EntrustTest(OwnershipCase):
    def refused_to_entrust(self, owner: int = US) -> str:
        error = self.assertRaises(
            OSError,
            lambda: ownership.entrust(str(self.directory), owner, US, -1),
        )
        return str(error.strerror)

    def test_ours(self) -> None:
        ownership.entrust(str(self.directory), US, US, -1)

    def test_link(self) -> None:
        self.directory.rmdir()
        self.directory.symlink_to('/etc')
        self.assertEqual('Not a directory', self.refused_to_entrust())

    def test_file(self) -> None:
        self.directory.rmdir()
        self.directory.touch()
        self.assertEqual('Not a directory', self.refused_to_entrust())

    def test_of_somebody_else(self) -> None:
        self.assertIn('belongs to the user', self.refused_to_entrust(OTHER))

    def test_with_something_in_it(self) -> None:
        self.path.touch()
        self.assertIn('not empty', self.refused_to_entrust())


class SetModeTest(OwnershipCase):
    def mode(self) -> int:
        return stat.S_IMODE(os.stat(self.directory).st_mode)

    def test_unreadable_directory(self) -> None:
        """A directory that a shell with the umask 777 has made."""
        self.directory.chmod(0)
        ownership.set_mode(str(self.directory), 0o711)
        self.assertEqual(0o711, self.mode())

    def test_link(self) -> None:
        self.directory.chmod(0o755)
        link = self.root / 'link'
        link.symlink_to(self.directory)
        error = self.assertRaises(
            OSError, ownership.set_mode, str(link), 0o700
        )
        self.assertIn('symbolic link', str(error))
        self.assertEqual(0o755, self.mode())
