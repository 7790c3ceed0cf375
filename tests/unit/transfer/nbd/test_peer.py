# SPDX-License-Identifier: Apache-2.0
"""Connections to what a guest's QEMU has in its directory."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import socket
import time

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Server
from nova_snapshot_driver.transfer.jobs.job_fields import view_from_dict
from nova_snapshot_driver.transfer.jobs.job_fields import view_to_dict
from nova_snapshot_driver.transfer.nbd import peer
from tests.unit import tables
from tests.unit.transfer import disks

#: Seconds, of what waits for a second.
LONG = 10


@ddt.ddt
class ConnectedTest(testtools.TestCase):
    """Ours, and that of another guest, whose QEMU is an honest one."""

    def setUp(self) -> None:
        super().setUp()
        self.disks = self.useFixture(disks.Disks())
        self.ours, self.others = (
            self.disks.serve(self.disks.raw(1 << 20, name=name))
            for name in ('ours', 'others')
        )
        self.socket = pathlib.Path(self.ours.socket)

    def connect(self, export: Export) -> None:
        with peer.connected(export) as connection:
            # The greeting of an NBD server.
            self.assertEqual(b'NBDMAGIC', connection.recv(8))

    def refused(self, export: Export) -> str:
        error = self.assertRaises(
            exception.ServerForeign, self.connect, export
        )
        self.assertEqual(export.socket, error.fields['socket'])
        return str(error.fields['reason'])

    def test_ours(self) -> None:
        self.connect(self.ours)
        self.assertEqual(self.ours, view_from_dict(view_to_dict(self.ours)))

    @tables.rows({kind: (kind,) for kind in ('symlink', 'link', 'rename')})
    def test_path_leads_to_another_guest(self, kind: str) -> None:
        self.socket.unlink()
        getattr(os, kind)(self.others.socket, self.socket)
        self.assertIn('another file', self.refused(self.ours))

    def test_other_kind_of_file(self) -> None:
        self.socket.unlink()
        self.socket.touch()
        self.assertIn('another file', self.refused(self.ours))

    @tables.rows({kind: (kind,) for kind in ('link', 'rename')})
    def test_socket_of_another_guest_was_claimed(self, kind: str) -> None:
        """The other socket was there before this one was looked at."""
        self.socket.unlink()
        getattr(os, kind)(self.others.socket, self.socket)
        forged = dataclasses.replace(
            self.ours, inode=Inode.of(os.stat(self.socket))
        )
        self.assertIn('has no argument -k', self.refused(forged))
        unknown = dataclasses.replace(
            forged, server=Server(None, forged.server.option)
        )
        self.assertIn('has no argument -k', self.refused(unknown))

    def test_value_of_another_option(self) -> None:
        """A user of the cloud may choose those of some."""
        server = Server(os.geteuid(), ('-x', str(self.socket)))
        self.refused(dataclasses.replace(self.ours, server=server))

    def test_other_user(self) -> None:
        server = Server(os.geteuid() + 1, self.ours.server.option)
        self.assertIn(
            f'of the user {os.geteuid()}',
            self.refused(dataclasses.replace(self.ours, server=server)),
        )

    def test_process_of_another_namespace(self) -> None:
        """A peer of unknown process needs a known user."""

        class Credentials:
            size = peer._CREDENTIALS.size

            @staticmethod
            def unpack(content: bytes) -> tuple[int, int, int]:
                return 0, os.geteuid(), 0

        self.useFixture(
            fixtures.MockPatchObject(peer, '_CREDENTIALS', Credentials)
        )
        self.connect(self.ours)
        for uid in (None, os.geteuid() + 1):
            server = Server(uid, self.ours.server.option)
            self.refused(dataclasses.replace(self.ours, server=server))

    def test_process_that_is_not_to_be_seen(self) -> None:
        """The process is gone, or ``/proc`` hides it."""
        listening = self.useFixture(Listening(self.disks.root / 'dead'))
        pid = os.fork()
        if not pid:
            listening.socket.listen()
            os._exit(0)
        os.waitpid(pid, 0)
        self.assertIn(str(pid), self.refused(listening.export()))

    def test_gone(self) -> None:
        self.socket.unlink()
        error = self.assertRaises(
            exception.SourceUnreadable, self.connect, self.ours
        )
        self.assertIn('No such file', str(error))

    def test_nobody_listens(self) -> None:
        self.disks.kill_servers()
        error = self.assertRaises(
            exception.SourceUnreadable, self.connect, self.ours
        )
        self.assertIn('Connection refused', str(error))

    def test_server_lets_nobody_in(self) -> None:
        """The queue of the server is full, and it accepts nobody."""
        self.useFixture(fixtures.MockPatchObject(peer, 'PATIENCE', 1))
        full = self.useFixture(Listening(self.disks.root / 'full'))
        full.socket.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(full.path)
            began = time.monotonic()
            self.assertRaises(
                exception.SourceUnreadable, self.connect, full.export()
            )
        self.assertTrue(1 <= time.monotonic() - began < LONG)

    def test_waits_for_ever_afterwards(self) -> None:
        """The one who reads has a bound of his own."""
        with peer.connected(self.ours) as connection:
            left = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16
            )
        self.assertEqual(bytes(16), left)


class Listening(fixtures.Fixture):
    """A socket that is bound, and on which somebody may listen."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.path = str(path)

    def _setUp(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.socket.close)
        self.socket.bind(self.path)

    def export(self) -> Export:
        return Export(
            self.path,
            'vda',
            0,
            Inode.of(os.stat(self.path)),
            Server(os.geteuid(), ('-k', self.path)),
        )
