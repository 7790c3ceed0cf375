# SPDX-License-Identifier: Apache-2.0
"""Storage that fails: below the disk, and below what the driver keeps."""

from __future__ import annotations

import random
from pathlib import Path

import libvirt

from lab.bounded import run
from lab.disks import Layer
from lab.root import as_root
from nova_snapshot_driver import exception
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from tests import faults
from tests import laws
from tests.functional import base
from tests.functional import machine
from tests.functional.faulty_disk import FaultyDisk
from tests.functional.small_file_system import SmallFileSystem

MIB = 1 << 20

SIZE = 32 * MIB

COMMAND_TIMEOUT = 60

NAME = 'storage'

#: The error of each method for a source that can't be read.
UNREADABLE = {
    'backup': exception.SourceUnreadable,
    'mirror': exception.MirrorFailed,
    'cold': exception.CommandFailed,
}


#: The calls that a path begins with, of those that change a domain.
CHANGES = {
    'backupBegin',
    'blockRebase',
    'fsFreeze',
    'managedSave',
    'undefineFlags',
}


class StorageCase(base.HostTest):
    """The guest has no operating system: its disk is the proof."""

    def setUp(self) -> None:
        super().setUp()
        self.content = self.directory / 'content'
        self.content.write_bytes(random.Random(6).randbytes(SIZE))

    def define(self, disk: Path, running: bool = True) -> None:
        domain = self.connection.defineXML(
            machine.machine_xml(NAME, Layer(disk, 'raw'))
        )
        self.addCleanup(domain.undefine)
        if running:
            domain.create()
            self.addCleanup(domain.destroy)
        self.domain = domain

    def take(self, driver: SnapshotDriver) -> Snapshot:
        return driver.snapshot_to_file(
            Instance(NAME), str(self.output / 'image')
        )

    def fails(
        self, error: type[exception.SnapshotError], driver: SnapshotDriver
    ) -> str:
        """A snapshot does, and the laws hold."""
        before = laws.Before.of(self.connection, NAME)
        raised = self.assertRaises(error, self.take, driver)
        self.assertEqual(
            [],
            laws.differences(
                self.connection,
                before,
                laws.Directories(
                    str(self.snapshots), str(self.state), str(self.output)
                ),
                lambda _domain: None,
            ),
        )
        self.assertEqual([], list(self.output.iterdir()))
        return str(raised)


class SourceTest(StorageCase):
    def test_unreadable(self) -> None:
        disk = self.useFixture(FaultyDisk(self.content, broken_at=SIZE // 2))
        self.define(disk.path)
        for path, error in UNREADABLE.items():
            self.fails(error, self.driver(method=path))
            state, _reason = self.domain.state()
            self.assertEqual(libvirt.VIR_DOMAIN_RUNNING, state, path)

    def test_unreadable_and_shut_off(self) -> None:
        disk = self.useFixture(FaultyDisk(self.content, broken_at=SIZE // 2))
        self.define(disk.path, running=False)
        self.fails(exception.SourceUnreadable, self.driver())

    def test_slow(self) -> None:
        """The image is complete, or the deadline ends it."""
        disk = self.useFixture(FaultyDisk(self.content, rate=8 * MIB))
        self.define(disk.path)
        self.fails(exception.DeadlineExceeded, self.driver(deadline=1))
        snapshot = self.take(self.driver(method='backup'))
        self.assertGreater(snapshot.total_seconds, 2)
        run(
            [
                *('qemu-img', 'compare', '-f', 'raw', '-F', 'raw'),
                *(self.content, self.output / 'image'),
            ],
            timeout=COMMAND_TIMEOUT,
        )


class StateDirectoryTest(StorageCase):
    """A snapshot that can't be recorded is not begun."""

    def setUp(self) -> None:
        super().setUp()
        self.define(self.content)
        self.small = self.useFixture(
            SmallFileSystem(self.directory / 'small', 1)
        )
        self.state = self.small.mount_point / 'state'
        self.state.mkdir()

    def refused(self, reason: str) -> None:
        for path in UNREADABLE:
            with faults.Interposer(self.connection) as interposer:
                message = self.fails(
                    exception.DirectoryUnusable,
                    self.driver(interposer.connection, method=path),
                )
            self.assertEqual(
                set(), CHANGES & {step.call for step in interposer.steps}
            )
            self.assertIn(reason, message)
            self.assertIn('[snapshot] state_directory', message)

    def test_full(self) -> None:
        self.small.fill()
        self.refused('No space left on device')

    def test_read_only(self) -> None:
        as_root('mount', '-o', 'remount,ro', self.small.mount_point)
        self.refused('Read-only file system')
