# SPDX-License-Identifier: Apache-2.0
"""libvirtd is killed in the midst of a call, and the guest runs on."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import libvirt

from lab.bounded import run
from lab.bounded import wait_until
from lab.cloud.libvirtd import Libvirtd
from lab.disks import Layer
from lab.hypervisor import run_event_loop
from nova_snapshot_driver import exception
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from tests import laws
from tests.functional import base
from tests.functional import machine

NAME = 'lost'

#: Seconds
TIMEOUT = 30


class LibvirtdDeathTest(base.HostTest):
    """The guest has no operating system: its disk is the proof."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest('a libvirtd of its own needs root')
        self.libvirtd = Libvirtd(self.directory)
        self.addCleanup(self.libvirtd.stop)
        self.disk = Layer(self.directory / 'disk', 'qcow2')
        self._run('create', '-f', 'qcow2', self.disk.path, '64M')
        self._run('bench', '-w', '-c', '64', '-f', 'qcow2', self.disk.path)
        self.to_libvirt = self._connect()
        self._start()

    def _run(self, command: str, *arguments: str | Path) -> None:
        run(['qemu-img', command, *arguments], timeout=TIMEOUT)

    def _connect(self) -> Any:
        run_event_loop()
        self.libvirtd.start()
        connection = libvirt.open(self.libvirtd.uri)
        self.addCleanup(connection.close)
        return connection

    def _start(self) -> None:
        definition = machine.machine_xml(NAME, self.disk)
        self.to_libvirt.defineXML(definition).create()

    def _state(self, suffix: str) -> str:
        """The state that libvirt keeps of the guest while it runs."""
        directory = self.directory / 'libvirt/state/qemu'
        return (directory / f'{NAME}.{suffix}').read_text()

    def test_while_it_begins_a_backup_job(self) -> None:
        """The place of the job stays taken until the domain is gone.

        The guest can neither have another job nor be suspended; but a copy of
        the disk does not need the place.
        """
        self._lose_a_job()
        self.to_libvirt = self._connect()
        snapshot = self._snapshot()
        self.assertEqual('mirror', snapshot.method)
        self.assertIn('libvirt has lost one', snapshot.method_reason)
        before = laws.Before.of(self.to_libvirt, NAME)
        self.assertRaises(exception.JobLost, self._snapshot, method='cold')
        self.assertEqual([], self._differences(before))
        # As "openstack server reboot --hard" does.
        domain = self.to_libvirt.lookupByName(NAME)
        domain.destroy()
        domain.undefine()
        self._start()
        self.assertEqual('backup', self._snapshot().method)

    def _lose_a_job(self) -> None:
        """Kill libvirtd while QEMU does not answer to what a job needs."""
        qemu = int(self._state('pid'))
        death = threading.Thread(target=self._kill_libvirtd, args=(qemu,))

        def stop_qemu() -> None:
            os.kill(qemu, signal.SIGSTOP)
            death.start()

        with self.meanwhile(
            'backupBegin', stop_qemu, self.to_libvirt
        ) as connection:
            self.assertRaises(
                exception.SnapshotError,
                self.driver(connection, method='backup').snapshot_to_file,
                Instance(NAME),
                str(self.output / 'lost'),
            )
        death.join()
        self.assertEqual([], list(self.output.iterdir()))

    def _kill_libvirtd(self, qemu: int) -> None:
        try:
            wait_until(
                lambda: "async='backup'" in self._state('xml'),
                'the backup job',
                TIMEOUT,
            )
        finally:
            self.libvirtd.libvirtd.kill()
            os.kill(qemu, signal.SIGCONT)

    def _snapshot(self, method: str = 'auto') -> Snapshot:
        """A snapshot that is proven, and leaves the guest as it was."""
        before = laws.Before.of(self.to_libvirt, NAME)
        image = self.output / 'image'
        snapshot = self.driver(
            self.to_libvirt, method=method
        ).snapshot_to_file(Instance(NAME), str(image))
        self._run(
            *(
                'compare',
                '-U',
                '-f',
                'qcow2',
                '-F',
                snapshot.disks[0].disk_format,
            ),
            *(self.disk.path, image),
        )
        image.unlink()
        self.assertEqual([], self._differences(before))
        return snapshot

    def _differences(self, before: laws.Before) -> list[str]:
        return laws.differences(
            self.to_libvirt,
            before,
            laws.Directories(
                str(self.snapshots), str(self.state), str(self.output)
            ),
            lambda _domain: None,
        )
