# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib
import pwd
import shlex
import socket
import subprocess
import sys
import unittest
from collections.abc import Callable

import fixtures
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import directories
from nova_snapshot_driver.cmd.check.finding import NotKnown
from nova_snapshot_driver.cmd.check.finding import look
from nova_snapshot_driver.cmd.check.nova_user import NovaUser
from nova_snapshot_driver.snapshot.capture import backup
from nova_snapshot_driver.state import workspace
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.takings import temporary_files
from tests.unit.denied import Denied

NOBODY = pwd.getpwnam('nobody')

as_root = unittest.skipUnless(os.geteuid() == 0, 'only root can do that')


class DirectoriesCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        # Other users have to pass the directory.
        self.root.chmod(0o711)
        self.nova = self.root / 'nova'
        self.nova.mkdir()
        self.user = NovaUser(os.geteuid(), os.getegid(), None)

    def belongs_to_nobody(self, *paths: pathlib.Path) -> None:
        for path in paths:
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)

    def nobody(self) -> NovaUser:
        return NovaUser(NOBODY.pw_uid, NOBODY.pw_gid, str(self.nova))

    def usable(self, path: pathlib.Path) -> str:
        before = sorted(self.root.rglob('*'))
        found = directories.state(str(path), self.user)
        again = directories.temporary(Place(str(path)), self.user)
        self.assertIn(found, again)
        self.assertIn('MiB free', again)
        # Nothing is made that would belong to whoever checks.
        self.assertEqual(before, sorted(self.root.rglob('*')))
        return found

    def unusable(self, path: pathlib.Path) -> list[str]:
        messages = []
        place = Place(str(path), '[snapshot] scratch_directory')
        for examine, what, option in (
            (directories.state, str(path), '[snapshot] state_directory'),
            (directories.temporary, place, place.option),
        ):
            error = self.assertRaises(
                exception.DirectoryUnusable, examine, what, self.user
            )
            self.assertIn(option, str(error))
            messages.append(str(error))
        return messages

    def follow(self, message: str) -> None:
        """Do what it says."""
        _, _, advice = message.partition('as root: ')
        command, _, _ = advice.partition(' (option')
        subprocess.run(shlex.split(command), check=True)


class UsableTest(DirectoriesCase):
    def test_there(self) -> None:
        self.assertEqual(str(self.nova), self.usable(self.nova))

    def test_yet_to_be_made(self) -> None:
        found = self.usable(self.nova / 'instances/snapshots')
        self.assertIn(f'made in {self.nova}', found)

    def test_relative(self) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.nova)
        self.assertIn('made in', self.usable(pathlib.Path('snapshots')))

    def test_file_in_the_way(self) -> None:
        (self.nova / 'file').write_text('')
        for path in ('file', 'file/below'):
            for message in self.unusable(self.nova / path):
                self.assertIn('file is no directory', message)

    def test_link_to_nowhere(self) -> None:
        (self.nova / 'link').symlink_to('nowhere')
        for message in self.unusable(self.nova / 'link'):
            self.assertIn('no directory', message)

    def test_writable_for_others(self) -> None:
        """Another user who may write there could plant anything."""
        self.nova.chmod(0o770)
        directories.temporary(Place(str(self.nova)), self.user)
        error = self.assertRaises(
            exception.DirectoryUnusable,
            directories.state,
            str(self.nova),
            self.user,
        )
        self.assertIn('it has the mode 770', str(error))
        _, _, command = str(error).partition('lies there: ')
        self.follow(f'as root: {command}')
        self.usable(self.nova)

    def test_not_writable(self) -> None:
        self.useFixture(fixtures.MockPatch('os.access', return_value=False))
        for message in self.unusable(self.nova):
            self.assertIn('cannot be written', message)


@as_root
class AnotherUserTest(DirectoriesCase):
    """Root checks, and nova-compute runs as nobody."""

    def setUp(self) -> None:
        super().setUp()
        self.user = self.nobody()

    def test_there(self) -> None:
        self.belongs_to_nobody(self.nova)
        self.usable(self.nova)

    def test_yet_to_be_made(self) -> None:
        self.belongs_to_nobody(self.nova)
        self.usable(self.nova / 'snapshots')

    def test_directory_of_root(self) -> None:
        """As an earlier command has made it, run as root."""
        directory = self.nova / 'snapshots'
        directory.mkdir(0o700)
        message, _ = self.unusable(directory)
        self.assertIn('cannot be written by nobody', message)
        self.follow(message)
        self.usable(directory)

    def test_cannot_be_made(self) -> None:
        directory = self.nova / 'snapshots'
        message, _ = self.unusable(directory)
        self.follow(message)
        self.usable(directory)
        self.assertEqual(0o700, directory.stat().st_mode & 0o777)

    def test_out_of_reach(self) -> None:
        self.belongs_to_nobody(self.nova)
        self.root.chmod(0o700)
        self.unusable(self.nova)

    def test_lock_of_root(self) -> None:
        """The next snapshot can't open a lock of root's."""
        self.belongs_to_nobody(self.nova)
        (self.nova / 'uuid.lock').write_text('')
        error = self.assertRaises(
            exception.DirectoryUnusable,
            directories.state,
            str(self.nova),
            self.user,
        )
        self.assertIn('uuid.lock', str(error))
        self.follow(str(error).replace('taken: ', 'as root: '))
        self.usable(self.nova)

    def test_root_that_may_not_become_another_user(self) -> None:
        self.useFixture(
            fixtures.MockPatch('subprocess.run', side_effect=PermissionError)
        )
        error = self.assertRaises(
            NotKnown, directories.state, str(self.nova), self.user
        )
        self.assertIn('may not act as nobody', str(error))

    def test_user_without_a_name(self) -> None:
        os.chown(self.nova, 54321, 54321)
        self.user = NovaUser(54321, 54321, str(self.nova))
        self.usable(self.nova)
        self.belongs_to_nobody(self.nova)
        self.assertIn('#54321', self.unusable(self.nova)[0])


class OutOfReachTest(DirectoriesCase):
    """Somebody checks who is neither root nor the user of nova-compute."""

    def setUp(self) -> None:
        super().setUp()
        self.user = self.nobody()
        self.useFixture(fixtures.MockPatch('os.geteuid', return_value=4242))

    def assert_not_known(self, check: Callable[[], str]) -> None:
        finding = look('A directory', check)
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn('Not known: whether nobody can use', finding.detail)
        self.assertIn('as this is #4242', finding.detail)
        self.assertIn('as nobody, or as root', finding.detail)

    def test_state(self) -> None:
        self.assert_not_known(
            lambda: directories.state(str(self.nova), self.user)
        )

    def test_temporary(self) -> None:
        self.assert_not_known(
            lambda: directories.temporary(Place(str(self.nova)), self.user)
        )

    def test_metrics(self) -> None:
        self.assert_not_known(
            lambda: directories.metrics(f'{self.nova}/a.prom', self.user)
        )

    def test_user_that_nobody_can_tell(self) -> None:
        self.user = NovaUser(4242, 4242, None, hidden=str(self.nova))
        finding = look(
            'A directory', lambda: directories.state(str(self.nova), self.user)
        )
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn('nobody can tell as whom it runs', finding.detail)


class HiddenTest(DirectoriesCase):
    """A path that nobody could look at is neither there nor missing."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(Denied(self.nova))
        # Root may be another user by now.
        self.user = NovaUser(os.geteuid(), os.getegid(), None)
        self.hidden = str(self.nova / 'snapshots' / 'more')

    def assert_not_known(self, check: Callable[[], str]) -> None:
        finding = look('A directory', check)
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn(
            f'Not known: {self.hidden} cannot be looked at', finding.detail
        )

    def test_state(self) -> None:
        self.assert_not_known(
            lambda: directories.state(self.hidden, self.user)
        )

    def test_temporary(self) -> None:
        self.assert_not_known(
            lambda: directories.temporary(Place(self.hidden), self.user)
        )

    def test_metrics(self) -> None:
        self.assert_not_known(
            lambda: directories.metrics(f'{self.hidden}/a.prom', self.user)
        )


class NovaUserTest(DirectoriesCase):
    def find(self, **paths: pathlib.Path) -> NovaUser:
        loaded = conf.load([])
        for option, path in paths.items():
            loaded.set_override(option, str(path))
        return NovaUser.find(loaded)

    def test_no_nova(self) -> None:
        user = self.find(state_path=self.root / 'missing')
        self.assertEqual(os.geteuid(), user.uid)
        self.assertFalse(user.is_somebody_else)

    def test_ours(self) -> None:
        user = self.find(state_path=self.nova)
        self.assertEqual(str(self.nova), user.owned)
        self.assertFalse(user.is_somebody_else)

    @as_root
    def test_instances_go_before_the_state(self) -> None:
        instances = self.root / 'instances'
        instances.mkdir()
        self.belongs_to_nobody(instances)
        user = self.find(instances_path=instances, state_path=self.nova)
        self.assertEqual('nobody', user.name)
        self.assertTrue(user.is_somebody_else)

    def test_hidden(self) -> None:
        """The owner of what can't be looked at is not known."""
        self.useFixture(Denied(self.nova))
        user = self.find(state_path=self.nova / 'state')
        self.assertEqual(os.geteuid(), user.uid)
        (finding,) = user.findings([])
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn(
            f'Not known: {self.nova}/state/instances cannot be looked at',
            finding.detail,
        )

    def test_directory_above_a_hidden_one(self) -> None:
        """Of /var/lib/nova others may know the owner, and no more."""
        self.useFixture(Denied(self.nova))
        user = self.find(
            instances_path=self.nova / 'instances', state_path=self.nova
        )
        self.assertEqual(str(self.nova), user.owned)
        self.assertIsNone(user.hidden)

    def test_nothing_to_say(self) -> None:
        self.assertEqual([], list(self.user.findings([])))

    def finding(self, program: str) -> str:
        self.useFixture(fixtures.MockPatchObject(sys, 'argv', [program]))
        (finding,) = self.nobody().findings(['/a/nova.conf', '/b/x.conf'])
        self.assertEqual(
            ('User', 'WARNING'), (finding.subject, finding.verdict)
        )
        self.assertIn(str(self.nova), finding.detail)
        return finding.detail

    def test_finding(self) -> None:
        self.assertIn(
            'sudo -u nobody /opt/bin/nova-snapshot check '
            '--config-file /a/nova.conf --config-file /b/x.conf',
            self.finding('/opt/bin/nova-snapshot'),
        )

    def test_finding_of_another_program(self) -> None:
        self.assertIn(
            'sudo -u nobody nova-snapshot check', self.finding('stestr')
        )


class SocketRoomTest(DirectoriesCase):
    UUID = '6394328f-6cc1-4569-a037-1f1d0655a168'

    def root_of(self, length: int) -> str:
        """A directory whose path has so many bytes, and fewer characters."""
        umlauts = (length - len(os.fsencode(self.root)) - 1) // 2
        path = f'{self.root}/'.ljust(
            length - umlauts, '\N{LATIN SMALL LETTER A WITH DIAERESIS}'
        )
        path += 'x' * (length - len(os.fsencode(path)))
        return path

    def test_longest(self) -> None:
        root = self.root_of(backup.LONGEST_ROOT)
        self.assertEqual([], list(directories.socket_room(root, 'backup')))
        with (
            workspace.socket_directory(root, self.UUID) as directory,
            socket.socket(socket.AF_UNIX) as server,
        ):
            server.bind(os.path.join(directory, temporary_files.SOCKET))

    def test_too_long(self) -> None:
        root = self.root_of(backup.LONGEST_ROOT + 1)
        for method, verdicts in {
            'backup': ['FAILURE'],
            'auto': ['WARNING'],
            'mirror': [],
            'cold': [],
        }.items():
            found = list(directories.socket_room(root, method))
            self.assertEqual(verdicts, [each.verdict for each in found])
        with (
            workspace.socket_directory(root, self.UUID) as directory,
            socket.socket(socket.AF_UNIX) as server,
        ):
            self.assertRaises(
                OSError,
                server.bind,
                os.path.join(directory, temporary_files.SOCKET),
            )
