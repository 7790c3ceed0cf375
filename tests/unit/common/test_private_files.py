# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fcntl
import os
import pathlib
import socket
import stat
import threading
from collections.abc import Callable

import ddt
import fixtures
import testtools

from nova_snapshot_driver.common import private_files
from nova_snapshot_driver.common.private_files import Directory
from nova_snapshot_driver.common.private_files import NoFile
from nova_snapshot_driver.common.private_files import Refused
from tests.unit import tables

#: Somebody who is neither root nor who runs the tests.
STRANGER = 65534

CONTENT = b'root:x:0:0\n'


def link(path: pathlib.Path, victim: pathlib.Path) -> None:
    path.symlink_to(victim)


def dangling_link(path: pathlib.Path, victim: pathlib.Path) -> None:
    path.symlink_to(victim.with_name('to-be-made'))


def endless_link(path: pathlib.Path, victim: pathlib.Path) -> None:
    path.symlink_to(path)


def hard_link(path: pathlib.Path, victim: pathlib.Path) -> None:
    path.hardlink_to(victim)


def pipe(path: pathlib.Path, victim: pathlib.Path) -> None:
    os.mkfifo(path)


def listener(path: pathlib.Path, victim: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def directory(path: pathlib.Path, victim: pathlib.Path) -> None:
    path.mkdir()


Plant = Callable[[pathlib.Path, pathlib.Path], None]

NO_FILES: tuple[Plant, ...] = (
    *(link, dangling_link, endless_link, pipe, listener, directory),
)

PLANTS = {each.__name__: (each,) for each in (*NO_FILES, hard_link)}


class FilesCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.place = self.root / 'place'
        self.place.mkdir(0o700)
        self.path = self.place / 'name'
        # A hard link to the victim needs the same file system.
        self.victim = self.root / 'victim'
        self.victim.write_bytes(CONTENT)
        self.victim.chmod(0o640)
        self.before = self.status()

    def status(self) -> tuple[int, ...]:
        found = self.victim.stat()
        return found.st_mode, found.st_uid, found.st_gid, found.st_size

    def is_untouched(self) -> None:
        self.assertEqual(CONTENT, self.victim.read_bytes())
        self.assertEqual(self.before, self.status())
        self.assertFalse((self.root / 'to-be-made').exists())

    def be_root_in_the_directory_of_another_user(self) -> None:
        if os.geteuid() != private_files.ROOT:
            self.skipTest('only root can give a directory to another user')
        os.chown(self.place, STRANGER, STRANGER)


@ddt.ddt
class PlantedTest(FilesCase):
    """A name is anything but the file that it was."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() == private_files.ROOT:
            self.be_root_in_the_directory_of_another_user()

    @tables.rows(PLANTS)
    def test_write(self, plant: Plant) -> None:
        plant(self.path, self.victim)
        with Directory.open(str(self.place)) as files:
            try:
                files.write('name', b'content')
            except IsADirectoryError:
                self.assertTrue(self.path.is_dir())
            else:
                self.assertEqual(b'content', self.path.read_bytes())
                self.assertEqual(files.owner, self.path.stat().st_uid)
                self.assertEqual(1, self.path.stat().st_nlink)
        self.is_untouched()
        self.assertEqual(['name'], os.listdir(self.place))

    @tables.rows({each.__name__: (each,) for each in NO_FILES})
    def test_read(self, plant: Plant) -> None:
        plant(self.path, self.victim)
        with Directory.open(str(self.place)) as files:
            self.assertRaises(NoFile, files.read, 'name', 100)
        self.assertTrue(os.path.lexists(self.path))
        self.is_untouched()

    @tables.rows(PLANTS)
    def test_remove(self, plant: Plant) -> None:
        plant(self.path, self.victim)
        with Directory.open(str(self.place)) as files:
            if plant is directory:
                self.assertRaises(OSError, files.remove, 'name')
            else:
                files.remove('name')
                self.assertEqual([], files.names())
        self.is_untouched()

    @tables.rows(PLANTS)
    def test_rename(self, plant: Plant) -> None:
        plant(self.path, self.victim)
        with Directory.open(str(self.place)) as files:
            files.rename('name', 'other')
            self.assertEqual(['other'], files.names())
        self.is_untouched()

    @tables.rows({each.__name__: (each,) for each in NO_FILES})
    def test_lock(self, plant: Plant) -> None:
        """A lock is a file, and nothing else."""
        plant(self.path, self.victim)
        with Directory.open(str(self.place)) as files:
            if plant is directory:
                self.assertRaises(OSError, files.locked('name').__enter__)
            else:
                with files.locked('name'):
                    self.assertEqual(['name'], files.names())
                    self.assertEqual(files.owner, self.path.stat().st_uid)
        self.is_untouched()

    @tables.rows({each.__name__: (each,) for each in NO_FILES})
    def test_look_at_a_lock(self, plant: Plant) -> None:
        plant(self.path, self.victim)
        with Directory.open(str(self.place)) as files:
            self.assertRaises(NoFile, files.is_locked, 'name')
        self.is_untouched()

    def test_draft_that_is_expected(self) -> None:
        """An attacker who knew the name of the next draft."""
        self.useFixture(
            fixtures.MockPatch('secrets.token_hex', return_value='known')
        )
        self.path.with_name('name.known.draft').symlink_to(self.victim)
        with Directory.open(str(self.place)) as files:
            self.assertRaises(FileExistsError, files.write, 'name', b'-')
        self.is_untouched()


@ddt.ddt
class OtherOwnerTest(FilesCase):
    """Root is in the directory of another user, and finds a file of root's.

    That user may have put it there, by a hard link or a rename.
    """

    def setUp(self) -> None:
        super().setUp()
        self.be_root_in_the_directory_of_another_user()
        hard_link(self.path, self.victim)

    @tables.rows(
        {
            'read': (lambda files: files.read('name', 100),),
            'lock': (lambda files: files.locked('name').__enter__(),),
            'look_at_a_lock': (lambda files: files.is_locked('name'),),
        }
    )
    def test_refused(self, what: Callable[[Directory], object]) -> None:
        with Directory.open(str(self.place)) as files:
            error = self.assertRaises(Refused, what, files)
        self.assertIn(f'chown -h {STRANGER} {self.path}', str(error))
        self.is_untouched()
        self.assertTrue(self.path.samefile(self.victim))


@ddt.ddt
class PlaceTest(FilesCase):
    def opened(self) -> None:
        with Directory.open(str(self.place)):
            pass

    @tables.rows({f'{mode:o}': (mode,) for mode in (0o700, 0o755, 0o1777)})
    def test_modes_that_will_do(self, mode: int) -> None:
        self.place.chmod(mode)
        self.opened()

    @tables.rows({f'{mode:o}': (mode,) for mode in (0o770, 0o2775, 0o707)})
    def test_others_write(self, mode: int) -> None:
        self.place.chmod(mode)
        error = self.assertRaises(Refused, self.opened)
        self.assertIn(f'it has the mode {mode:o}', str(error))
        self.assertIn(f'chmod go-w {self.place}', str(error))

    def test_of_somebody_else(self) -> None:
        status = self.place.stat()
        for user, is_refused in {
            status.st_uid: False,
            private_files.ROOT: False,
            STRANGER: status.st_uid != private_files.ROOT,
        }.items():
            if not is_refused:
                private_files.see_nobody_else_writes('/a', status, user)
                continue
            error = self.assertRaises(
                Refused,
                private_files.see_nobody_else_writes,
                *('/a', status, user),
            )
            self.assertIn(f'chown {user} /a', str(error))

    def test_of_somebody_else_for_whoever_is_not_root(self) -> None:
        self.be_root_in_the_directory_of_another_user()
        error = self.assertRaises(
            Refused,
            private_files.see_nobody_else_writes,
            *('/a b', self.place.stat(), 1),
        )
        self.assertIn("chown 1 '/a b'", str(error))

    def test_held(self) -> None:
        """A held directory stays readable, whatever becomes of its path."""
        with Directory.open(str(self.place)) as files:
            self.place.rename(self.root / 'moved')
            self.place.symlink_to(self.root)
            files.write('victim', b'-')
        self.is_untouched()
        self.assertEqual(['victim'], os.listdir(self.root / 'moved'))

    def test_held_by_a_path(self) -> None:
        with private_files.held(str(self.place)) as path:
            self.place.rename(self.root / 'moved')
            self.place.symlink_to(self.root)
            self.assertEqual([], os.listdir(path))

    def test_no_descriptor_is_left(self) -> None:
        before = os.listdir('/proc/self/fd')
        with Directory.open(str(self.place)) as files:
            files.write('name', b'')
            with files.locked('name'):
                pass
            files.is_locked('name')
            self.path.unlink()
            self.path.symlink_to('/')
            self.assertRaises(NoFile, files.read, 'name', 1)
        self.place.chmod(0o777)
        self.assertRaises(Refused, self.opened)
        self.assertEqual(len(before), len(os.listdir('/proc/self/fd')))


class OneFileTest(FilesCase):
    def setUp(self) -> None:
        super().setUp()
        context = Directory.open(str(self.place))
        self.files = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def test_written_and_read(self) -> None:
        self.files.write('name', b'content', mode=0o644, synced=True)
        self.assertEqual(b'content', self.files.read('name', 100))
        self.assertEqual(b'con', self.files.read('name', 3))
        self.assertEqual(0o644, stat.S_IMODE(self.path.stat().st_mode))

    def test_nothing_is_left_of_what_fails(self) -> None:
        self.files.write('name', b'before')
        full = OSError(28, 'No space left')
        for call in ('os.rename', 'os.fchmod', 'os.fsync'):
            with fixtures.MockPatch(call, side_effect=full):
                self.assertRaises(
                    OSError, self.files.write, 'name', b'-', synced=True
                )
        self.assertEqual(['name'], self.files.names())
        self.assertEqual(b'before', self.files.read('name', 100))

    def test_drafts(self) -> None:
        """The drafts that a death has left, of any version, and no more."""
        for name in ('a.draft', 'a.0f.draft', 'ab.0f.draft', 'a.json'):
            (self.place / name).touch()
        self.files.remove_drafts('a')
        self.assertEqual(['a.json', 'ab.0f.draft'], self.files.names())

    def test_lock_excludes_those_of_oslo(self) -> None:
        """Locks of other versions, and of others that lock the file."""
        with self.files.locked('name'):
            self.assertFalse(self.may_lock())
        self.assertTrue(self.may_lock())

    def may_lock(self) -> bool:
        """In another process, as ``fasteners`` does."""
        child = os.fork()
        if not child:
            with open(self.path, 'a') as file:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os._exit(1)
                os._exit(0)
        return os.waitpid(child, 0)[1] == 0

    def test_lock_that_others_make_meanwhile(self) -> None:
        """All who want it find one file."""
        made: list[int] = []
        together = threading.Barrier(8)

        def make() -> None:
            together.wait()
            descriptor = self.files._lock('name')
            made.append(os.fstat(descriptor).st_ino)
            os.close(descriptor)

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual([self.path.stat().st_ino] * 8, made)
        self.assertEqual(['name'], self.files.names())


@ddt.ddt
class RemovedTest(FilesCase):
    """A file whose path somebody else has written down."""

    def remove(self, user: int | None = None) -> None:
        owner = os.geteuid() if user is None else user
        private_files.remove_file_of(owner, str(self.path))

    def test_file(self) -> None:
        self.path.touch()
        self.remove()
        self.assertFalse(self.path.exists())

    @tables.rows({each.__name__: (each,) for each in NO_FILES})
    def test_no_file(self, plant: Plant) -> None:
        plant(self.path, self.victim)
        self.assertRaises(NoFile, self.remove)
        self.assertTrue(os.path.lexists(self.path))
        self.is_untouched()

    def test_of_somebody_else(self) -> None:
        self.path.touch()
        error = self.assertRaises(Refused, self.remove, STRANGER)
        self.assertIn(f'and not of {STRANGER}', str(error))
        self.assertTrue(self.path.exists())

    def test_missing(self) -> None:
        self.assertRaises(FileNotFoundError, self.remove)
