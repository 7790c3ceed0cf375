# SPDX-License-Identifier: Apache-2.0
"""A snapshot is killed, and nobody comes to look after its guest.

With a libvirtd, since two processes need it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

import libvirt
from oslotest import base as oslotest_base

from lab.bounded import wait_until
from lab.cloud.libvirtd import Libvirtd
from lab.guest import WitnessGuest
from lab.hypervisor import Hypervisor
from lab.options import GuestOptions
from tests import laws
from tests import processes
from tests.functional import base

#: Seconds
TIMEOUT = 120

#: In which the guest has its life back.
BOUND = 20

PROGRAM = Path(sys.executable).with_name('nova-snapshot')


class _Daemon(Hypervisor):
    """The guests of a libvirtd."""

    def __init__(self, root: Path, uri: str) -> None:
        super().__init__(root)
        self.uri = uri

    def _open(self) -> libvirt.virConnect:
        return libvirt.open(self.uri)


class WatchdogTest(oslotest_base.BaseTestCase):
    guest: ClassVar[WitnessGuest]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        root = base.scratch_directory() / 'wd'
        daemon = Libvirtd(root)
        cls.addClassCleanup(daemon.stop)
        daemon.start()
        hypervisor = _Daemon(root / 'hv', daemon.uri)
        cls.guest = WitnessGuest(hypervisor, GuestOptions('wd'))
        cls.addClassCleanup(cls.guest.discard)
        cls.guest.boot()

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(tempfile.mkdtemp(dir=base.scratch_directory()))
        self.addCleanup(shutil.rmtree, self.directory)
        output = self.directory / 'output'
        output.mkdir()
        self.directories = laws.Directories(
            str(self.directory / 'snapshots'),
            str(self.directory / 'state'),
            str(output),
        )
        self.connection = self.guest.hypervisor.connection
        self.before = laws.Before.of(self.connection, self.guest.name)

    def start(self, path: str) -> subprocess.Popen[str]:
        configuration = self.directory / 'nova.conf'
        configuration.write_text(
            f'[DEFAULT]\nstate_path = {self.directory}\n'
            '[libvirt]\n'
            f'connection_uri = {self.guest.hypervisor.uri}\n'
            f'snapshots_directory = {self.directories.snapshots}\n'
            f'[snapshot]\nstate_directory = {self.directories.state}\n'
            'bandwidth = 4\n'
        )
        process = subprocess.Popen(
            [
                *(PROGRAM, 'create', self.guest.name),
                *('--config-file', configuration, '--method', path),
                *('--output', self.directory / 'output/image'),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.addCleanup(process.kill)
        wait_until(
            lambda: any((self.directory / 'output').glob('*.part')),
            'the disk to be read',
            TIMEOUT,
            interval=0.01,
        )
        return process

    def differences(self) -> list[str]:
        return laws.differences(self.connection, self.before, self.directories)

    def test_killed_while_the_backup_job_runs(self) -> None:
        self.is_rescued('backup')

    def test_killed_after_the_copy(self) -> None:
        self.is_rescued('mirror')

    def test_killed_while_the_guest_is_saved(self) -> None:
        self.is_rescued('cold')

    def is_rescued(self, path: str) -> None:
        process = self.start(path)
        [watchdog] = processes.children(process.pid, processes.WATCHDOG)
        self.assertNotEqual([], self.differences())
        process.kill()
        process.wait(TIMEOUT)
        wait_until(
            lambda: not self.differences(),
            f'the guest to be given back: {self.differences()}',
            BOUND,
        )
        wait_until(
            lambda: not Path(f'/proc/{watchdog}').exists(), 'its end', BOUND
        )
        with self.guest.ticks as ticks:
            ticks.wait(5, 30)

    def test_terminated(self) -> None:
        """The snapshot gives it back, and its watchdog has nothing to do."""
        process = self.start('cold')
        [watchdog] = processes.children(process.pid, processes.WATCHDOG)
        process.terminate()
        self.assertEqual(130, process.wait(TIMEOUT))
        self.assertFalse(Path(f'/proc/{watchdog}').exists())
        self.assertEqual([], self.differences())
