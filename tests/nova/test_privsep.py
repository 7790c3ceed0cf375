# SPDX-License-Identifier: Apache-2.0
"""Nova's real privsep daemon, as root, and a QEMU that has turned against it.

Each test is a process that starts the daemon and becomes an ordinary user, as
nova-compute is one.
"""

from __future__ import annotations

import os
import pathlib
import pickle
import shutil
import stat
import tempfile
from collections.abc import Callable
from typing import Any

import ddt
import nova.conf
import nova.privsep
from oslo_privsep import capabilities
from oslo_privsep import priv_context

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.ownership import Kind
from nova_snapshot_driver.nova import privsep
from nova_snapshot_driver.nova.environment import ComputeEnvironment
from tests.nova.base import NovaCase
from tests.unit import tables

ROOT, NOVA, QEMU = 0, 64001, 64002

#: The capabilities of ``nova.privsep``.
CAPABILITIES = [
    capabilities.CAP_CHOWN,
    capabilities.CAP_DAC_OVERRIDE,
    capabilities.CAP_DAC_READ_SEARCH,
    capabilities.CAP_FOWNER,
    capabilities.CAP_NET_ADMIN,
    capabilities.CAP_SYS_ADMIN,
]

Attack = Callable[[pathlib.Path, pathlib.Path], object]


def _socket(path: pathlib.Path, owner: int = QEMU) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)
    os.chown(path, owner, owner)


def _fifo(path: pathlib.Path, _victim: pathlib.Path) -> None:
    os.mkfifo(path)
    os.chown(path, QEMU, QEMU)


def _file(path: pathlib.Path, _victim: pathlib.Path) -> None:
    path.touch()
    os.chown(path, QEMU, QEMU)


def _link_of_own(path: pathlib.Path, victim: pathlib.Path) -> None:
    """A socket of QEMU's own, which has another name elsewhere."""
    _socket(path)
    os.link(path, victim.with_name('another name'))


def _swapped(path: pathlib.Path, victim: pathlib.Path) -> None:
    """A directory of root's, by a link in place of QEMU's own."""
    secret = victim.with_name('directory of root')
    secret.mkdir()
    os.mknod(secret / path.name, stat.S_IFSOCK | 0o600)
    path.parent.rmdir()
    path.parent.symlink_to(secret)


def _replaced(path: pathlib.Path, victim: pathlib.Path) -> None:
    """A directory of root's itself."""
    path.parent.rmdir()
    path.parent.mkdir()
    path.parent.chmod(0o711)
    _socket(path)


#: The attacks that replace the socket, by what QEMU can and can't do.
ATTACKS: dict[str, tuple[Attack, str]] = {
    'symbolic_link': (
        lambda path, victim: path.symlink_to(victim),
        'a symbolic link',
    ),
    'symbolic_link_to_a_socket': (
        lambda path, victim: path.symlink_to(
            victim.with_name('socket of root')
        ),
        'a symbolic link',
    ),
    'hard_link': (lambda path, victim: os.link(victim, path), 'regular file'),
    'hard_link_to_a_socket': (
        lambda path, victim: os.link(victim.with_name('socket of root'), path),
        'it has 2 names',
    ),
    'socket_with_another_name': (_link_of_own, 'it has 2 names'),
    'named_pipe': (_fifo, 'a named pipe'),
    'file': (_file, 'a regular file'),
    'socket_of_root': (
        lambda path, _victim: _socket(path, ROOT),
        f'it belongs to the user {ROOT}',
    ),
    'socket_that_nova_has': (
        lambda path, _victim: _socket(path, NOVA),
        f'it belongs to the user {NOVA}',
    ),
    'directory_is_a_link': (_swapped, 'its directory is a symbolic link'),
    'directory_of_root': (_replaced, f'belongs to the user {ROOT}'),
    'nothing': (lambda path, victim: None, 'No such file'),
}


@ddt.ddt
class PrivsepTest(NovaCase):
    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != ROOT:
            self.skipTest(
                'only root can start processes and make files of other users'
            )
        root = pathlib.Path(tempfile.mkdtemp(dir='/var/tmp'))
        self.addCleanup(shutil.rmtree, root)
        root.chmod(0o755)
        self.snapshots = root / 'snapshots'
        self.snapshots.mkdir()
        self.snapshots.chmod(0o711)
        os.chown(self.snapshots, NOVA, NOVA)
        self.directory = self.snapshots / 'directory of QEMU'
        self.directory.mkdir()
        self.directory.chmod(0o770)
        os.chown(self.directory, QEMU, NOVA)
        self.socket = self.directory / 's'
        self.victim = root / 'shadow'
        self.victim.touch(0o600)
        _socket(root / 'socket of root', ROOT)
        self.before = self.owners(root)
        self.root = root

    def owners(self, root: pathlib.Path) -> dict[str, int]:
        """Of what is root's."""
        return {
            str(path): path.lstat().st_uid
            for path in root.iterdir()
            if path.lstat().st_uid == ROOT
        }

    def as_nova(self, does: Callable[[], Any]) -> Any:
        """Have something done by an ordinary user, who has the daemon."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            # Exit: neither this process nor the daemon may go on with the
            # tests.
            try:
                os.close(reader)
                with open(writer, 'wb') as pipe:
                    pickle.dump(_outcome(does), pipe)
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, 'rb') as pipe:
            result = pickle.load(pipe)
        os.waitpid(child, 0)
        if isinstance(result, BaseException):
            raise result
        return result

    def claim(self) -> Inode:
        inode: Inode = self.as_nova(
            lambda: ComputeEnvironment().claim(
                str(self.socket), Kind.SOCKET, (QEMU,)
            )
        )
        return inode

    def claim_as_root(self) -> None:
        """The daemon looks itself, whatever nova has looked at."""
        status = self.socket.stat()
        self.as_nova(
            lambda: privsep.claim(
                *(str(self.socket), Kind.SOCKET.value, [QEMU], NOVA),
                *(status.st_dev, status.st_ino),
            )
        )

    def test_socket(self) -> None:
        _socket(self.socket)
        self.assertEqual(Inode.of(os.stat(self.socket)), self.claim())
        self.assertEqual(NOVA, os.stat(self.socket).st_uid)
        self.assertEqual(QEMU, os.stat(self.socket).st_gid)

    @tables.rows(ATTACKS)
    def test_attack(self, attack: Attack, said: str) -> None:
        attack(self.socket, self.victim)
        before = self.owners(self.root)
        error = self.assertRaises(exception.ClaimRefused, self.claim)
        self.assertIn(said, error.fields['reason'])
        self.assertEqual(before, self.owners(self.root))
        self.assertEqual(ROOT, self.victim.stat().st_uid)

    @tables.rows(
        {name: row for name, row in ATTACKS.items() if name != 'nothing'}
    )
    def test_attack_between_the_looks(self, attack: Attack, said: str) -> None:
        """Nova has looked already, and root looks for itself."""
        attack(self.socket, self.victim)
        before = self.owners(self.root)
        error = self.assertRaises(PermissionError, self.claim_as_root)
        self.assertIn(said, error.strerror)
        self.assertEqual(before, self.owners(self.root))
        self.assertEqual(ROOT, self.victim.stat().st_uid)

    def entrust(self) -> None:
        self.as_nova(
            lambda: ComputeEnvironment().entrust(str(self.directory), QEMU)
        )

    def test_entrusted(self) -> None:
        os.chown(self.directory, NOVA, NOVA)
        self.directory.chmod(0o700)
        self.entrust()
        status = self.directory.stat()
        self.assertEqual((QEMU, NOVA), (status.st_uid, status.st_gid))
        self.assertEqual(0o770, stat.S_IMODE(status.st_mode))

    def test_link_is_not_entrusted(self) -> None:
        self.directory.rmdir()
        self.directory.symlink_to(self.root)
        self.assertRaises(
            OSError,
            self.as_nova,
            lambda: privsep.entrust(str(self.directory), ROOT, QEMU, NOVA),
        )
        self.assertEqual(ROOT, self.root.stat().st_uid)

    def test_directory_of_root_is_not_entrusted(self) -> None:
        os.chown(self.directory, ROOT, ROOT)
        self.assertRaises(
            PermissionError,
            self.as_nova,
            lambda: privsep.entrust(str(self.directory), NOVA, QEMU, NOVA),
        )
        self.assertEqual(ROOT, self.directory.stat().st_uid)


def _outcome(does: Callable[[], Any]) -> Any:
    try:
        return _as_nova(does)
    except Exception as error:
        return error


def _as_nova(does: Callable[[], Any]) -> Any:
    context = nova.privsep.sys_admin_pctxt
    # Nova's options, which are lost where a test has cleared them.
    nova.conf.CONF.set_override(
        'capabilities', CAPABILITIES, group=context.cfg_section
    )
    context.set_client_mode(True)
    context.stop()
    context.start(priv_context.Method.FORK)
    os.setgroups([])
    os.setgid(NOVA)
    os.setuid(NOVA)
    return does()
