# SPDX-License-Identifier: Apache-2.0
"""Updates of a volume, which is a file here that QEMU writes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import signal
import subprocess
from typing import Any

import ddt
import fixtures
import hypothesis
import testtools
from hypothesis import strategies

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import blockdev
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.common.view import Volume
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from nova_snapshot_driver.transfer.jobs import update
from nova_snapshot_driver.transfer.jobs.job import Update
from nova_snapshot_driver.transfer.jobs.job_fields import Base
from nova_snapshot_driver.transfer.nbd import qemu_nbd
from nova_snapshot_driver.transfer.nbd import target
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from tests import exhaustive
from tests.unit import tables
from tests.unit.transfer import disks
from tests.unit.transfer.changing_disk import WRITES
from tests.unit.transfer.changing_disk import ChangingDisk
from tests.unit.transfer.changing_disk import Write
from tests.unit.transfer.fake_parent import FakeParent

#: The bytes of the volume, which no disk fills.
ROOM = 16 * CHUNK


class VolumeFile(fixtures.Fixture):
    """A file that stands for a volume in Ceph.

    :ivar options: of the file, for QEMU
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.options: dict[str, Any] = {
            'driver': 'file',
            'filename': str(path),
        }

    def _setUp(self) -> None:
        with self.path.open('wb') as file:
            file.truncate(ROOM)
        self.useFixture(
            fixtures.MockPatchObject(blockdev, '_of_volume', self._named)
        )

    def _named(self, volume: Volume) -> dict[str, Any]:
        return {'driver': 'raw', 'size': volume.size, 'file': self.options}

    def of(self, size: int) -> Volume:
        """The volume, for a disk of a size."""
        return Volume(
            *('volumes', 'volume-1', size, ('mon:6789',), 'cinder'),
            key='a2V5',
        )


class UpdateCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.disks = self.useFixture(disks.Disks())
        self.root = self.disks.root
        self.parent = FakeParent()
        self.volume = self.useFixture(VolumeFile(self.root / 'volume'))
        self.base: Base | None = None
        self.bounds = disks.BOUNDS

    def update(self, view: View, size: int) -> dict[str, Any]:
        """Update the volume, which has the content of the base then."""
        number = len(list(self.root.glob('*.leaves')))
        leaves = self.root / f'{number}.leaves'
        job = Update(
            view, self.base, self.volume.of(size), str(leaves), str(self.root)
        )
        said = update.run(job, self.bounds, self.parent)
        self.base = Base(size, str(leaves), str(said['tree']))
        return said

    def assert_is(self, content: bytes) -> None:
        """Whether the volume has a content, and nothing behind it."""
        found = self.volume.path.read_bytes()
        self.assertEqual(content, found[: len(content)])
        self.assertFalse(any(found[len(content) :]))
        assert self.base is not None
        leaves = b''.join(
            hashlib.sha256(content[begin : begin + CHUNK]).digest()
            for begin in range(0, len(content), CHUNK)
        )
        self.assertEqual(leaves, pathlib.Path(self.base.leaves).read_bytes())


@ddt.ddt
class ExactTest(UpdateCase):
    @hypothesis.settings(
        max_examples=exhaustive.examples(8), deadline=None, database=None
    )
    @hypothesis.given(
        first=strategies.sampled_from([512, CLUSTER, CHUNK, 4 * CHUNK - 512]),
        instants=strategies.lists(
            strategies.tuples(
                WRITES,
                strategies.sampled_from([0, 0, 512, CHUNK + 512]),
                strategies.booleans(),
            ),
            min_size=1,
            max_size=3,
        ),
    )
    def test_any_changes(
        self, first: int, instants: list[tuple[list[Write], int, bool]]
    ) -> None:
        for path in self.root.iterdir():
            if path.is_file():
                path.unlink()
        with self.volume.path.open('wb') as file:
            file.truncate(ROOM)
        self.base = None
        disk = ChangingDisk(self.root / 'disk', disks.noise(first))
        disk.begin('b0')
        self.update(disk.layer, first)
        self.assert_is(bytes(disk.content))
        for number, (writes, growth, by_bitmap) in enumerate(instants):
            disk.write(writes)
            if growth:
                disk.grow(len(disk.content) + growth)
            view: View = disk.layer
            if by_bitmap:
                view = self.disks.serve(disk.layer, f'b{number}')
            self.update(view, len(disk.content))
            self.disks.kill_servers()
            self.assert_is(bytes(disk.content))
            disk.begin(f'b{number + 1}')

    @tables.rows({'bitmap': (True,), 'compare': (False,)})
    def test_only_changes_are_sent(self, by_bitmap: bool) -> None:
        size = 8 * CHUNK
        disk = ChangingDisk(self.root / 'disk', disks.noise(size))
        disk.begin('b')
        self.assertEqual(size, self.update(disk.layer, size)['size'])
        view: View = disk.layer
        disk.write([(5 * CHUNK + 77, 1, 1), (0, 3 * CHUNK, None)])
        if by_bitmap:
            view = self.disks.serve(disk.layer, 'b')
        said = self.update(view, size)
        sent = CLUSTER if by_bitmap else CHUNK
        self.assertEqual(
            (sent, sent + 3 * CHUNK), (said['size'], said['changed'])
        )
        self.assert_is(bytes(disk.content))

    def test_nothing(self) -> None:
        disk = ChangingDisk(self.root / 'disk', disks.noise(CHUNK))
        disk.begin('b')
        self.update(disk.layer, CHUNK)
        said = self.update(self.disks.serve(disk.layer, 'b'), CHUNK)
        self.assertEqual((0, 0), (said['size'], said['changed']))

    def test_holes_are_not_sent(self) -> None:
        """A new volume reads as zeros."""
        disk = self.disks.raw(8 * CHUNK, [(CHUNK, disks.noise(CLUSTER))])
        self.assertEqual(CLUSTER, self.update(disk, 8 * CHUNK)['size'])

    def test_zeros_make_holes(self) -> None:
        """Parts that touch are one request, and take no room."""
        self.useFixture(
            fixtures.MockPatchObject(target, 'LARGEST_ZEROS', 3 * CHUNK)
        )
        size = 8 * CHUNK
        disk = ChangingDisk(self.root / 'disk', disks.noise(size))
        self.update(disk.layer, size)
        before = self.volume.path.stat().st_blocks
        disk.write([(0, 7 * CHUNK, None)])
        self.update(disk.layer, size)
        self.assert_is(bytes(disk.content))
        freed = (before - self.volume.path.stat().st_blocks) * 512
        self.assertEqual(7 * CHUNK, freed)


@ddt.ddt
class RefusalTest(UpdateCase):
    def setUp(self) -> None:
        super().setUp()
        self.size = 4 * CHUNK
        self.disk = self.disks.raw(self.size, [(0, disks.noise(self.size))])

    def assert_refused(
        self, kind: type[exception.SnapshotError], why: str, view: View
    ) -> None:
        with testtools.ExpectedException(kind, f'.*{why}.*'):
            self.update(view, self.size)

    def test_no_volume(self) -> None:
        self.volume.path.unlink()
        self.assert_refused(
            exception.VolumeUnwritable, 'No such file', self.disk
        )

    @tables.rows(
        {
            'write': ('write_aio', 5, 'Input/output error'),
            'no_room': ('write_aio', 28, 'No space left'),
            'flush': ('flush_to_disk', 5, 'Input/output error'),
        }
    )
    def test_fails(self, event: str, errno: int, why: str) -> None:
        self.volume.options = {
            'driver': 'blkdebug',
            'image': self.volume.options,
            'inject-error': [
                {
                    'event': 'none',
                    'iotype': 'flush'
                    if event.startswith('flush')
                    else 'write',
                    'errno': errno,
                }
            ],
        }
        self.assert_refused(exception.VolumeUnwritable, why, self.disk)

    def test_torn_disk(self) -> None:
        """The disk is at fault, and not the volume."""
        self.assert_refused(
            exception.SourceUnreadable,
            'cannot be read',
            self.disks.torn(self.disk, CHUNK),
        )

    def test_too_small(self) -> None:
        with self.volume.path.open('wb') as file:
            file.truncate(CHUNK)
        self.assert_refused(exception.VolumeUnwritable, '', self.disk)

    def test_leaves_of_the_base(self) -> None:
        self.update(self.disk, self.size)
        assert self.base is not None
        self.base = dataclasses.replace(self.base, tree='0' * 64)
        self.assert_refused(
            exception.LeavesDamaged, 'the recorded hash', self.disk
        )


@ddt.ddt
class ServerTest(UpdateCase):
    """The server of the volume comes to harm while it is written."""

    def setUp(self) -> None:
        super().setUp()
        self.servers: list[subprocess.Popen[bytes]] = []
        start, write = qemu_nbd._start, target.Target.write

        def remember(
            arguments: list[str], *others: Any
        ) -> subprocess.Popen[bytes]:
            server = start(arguments, *others)
            if '--read-only' not in arguments:
                self.servers.append(server)
            return server

        def write_after(written: target.Target, *arguments: Any) -> None:
            # The first request is served, or at least on its way.
            if written.sent:
                self.servers[0].send_signal(self.signal)
            write(written, *arguments)

        for where, name, what in (
            (qemu_nbd, '_start', remember),
            (qemu_nbd, '_END_TIMEOUT', 0.1),
            (target.Target, 'write', write_after),
        ):
            self.useFixture(fixtures.MockPatchObject(where, name, what))

    @tables.rows(
        {
            'killed': (signal.SIGKILL, 'cannot be written'),
            'stopped': (signal.SIGSTOP, 'no answer for 1 s'),
        }
    )
    def test_harm(self, number: signal.Signals, why: str) -> None:
        self.signal = number
        self.bounds = Bounds(timeout=1)
        size = 16 * CHUNK
        disk = self.disks.raw(size, [(0, disks.noise(size))])
        with testtools.ExpectedException(
            exception.VolumeUnwritable, f'.*{why}.*'
        ):
            self.update(disk, size)
        (server,) = self.servers
        self.assertEqual(-signal.SIGKILL, server.returncode)


class SecretTest(testtools.TestCase):
    """The arguments by which QEMU opens a volume in Ceph."""

    VOLUME = Volume(
        *('volumes', 'volume-1', 4096, ('[::1]:6789', 'mon:3300'), 'cinder'),
        key='a2V5',
        conf='/etc/ceph/ceph.conf',
        passphrase='cGhyYXNl',
        snapshot='snapshot-2',
    )

    def test_options(self) -> None:
        (argument,) = blockdev.arguments(self.VOLUME)
        self.assertEqual(
            {
                'driver': 'raw',
                'size': 4096,
                'file': {
                    'driver': 'luks',
                    'key-secret': 'passphrase',
                    'file': {
                        'driver': 'rbd',
                        'pool': 'volumes',
                        'image': 'volume-1',
                        'snapshot': 'snapshot-2',
                        'user': 'cinder',
                        'key-secret': 'key',
                        'conf': '/etc/ceph/ceph.conf',
                        'server': [
                            {'host': '::1', 'port': '6789'},
                            {'host': 'mon', 'port': '3300'},
                        ],
                    },
                },
            },
            json.loads(argument.removeprefix('json:')),
        )
