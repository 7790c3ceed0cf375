# SPDX-License-Identifier: Apache-2.0
"""A root disk that is a block device, as Nova's are on LVM."""

from __future__ import annotations

from pathlib import Path

import libvirt

from lab.bounded import run
from lab.disks import Layer
from lab.root import as_root
from nova_snapshot_driver.snapshot.plan.instance import Instance
from tests.functional import base
from tests.functional import machine

SIZE = 64 << 20
COMMAND_TIMEOUT = 60


class BlockDeviceTest(base.HostTest):
    """The guest has no operating system: its disk is the proof."""

    def setUp(self) -> None:
        super().setUp()
        self.content = self.directory / 'content'
        with self.content.open('wb') as file:
            file.truncate(SIZE)
            file.write(b'the beginning of the disk')
            file.seek(SIZE // 2)
            file.write(bytes(range(256)) * 4096)
        self.device = self._loop_device()
        self.machine = self.connection.defineXML(
            machine.machine_xml('block', Layer(Path(self.device), 'raw'))
        )
        self.addCleanup(self.machine.undefine)

    def _loop_device(self) -> str:
        device = as_root('losetup', '--find', '--show', self.content).strip()
        self.addCleanup(as_root, 'losetup', '--detach', device)
        as_root('chmod', 'o+rw', device)
        return device

    def test_running(self) -> None:
        self.machine.create()
        self.addCleanup(self.machine.destroy)
        for path in ('backup', 'mirror', 'cold'):
            for image_format in (None, 'qcow2'):
                self._holds_content(path, image_format)
        state, _reason = self.machine.state()
        self.assertEqual(libvirt.VIR_DOMAIN_RUNNING, state)

    def test_shut_off(self) -> None:
        self._holds_content('auto', None)

    def _holds_content(self, path: str, image_format: str | None) -> None:
        image = self.output / f'{path}-{image_format}'
        snapshot = self.driver(
            method=path, image_format=image_format
        ).snapshot_to_file(Instance('block'), str(image))
        # A device has no format of its own to go by.
        self.assertEqual(image_format or 'raw', snapshot.disks[0].disk_format)
        self._compare(image, snapshot.disks[0].disk_format)

    def _compare(self, image: Path, image_format: str) -> None:
        run(
            [
                *('qemu-img', 'compare', '-f', 'raw', '-F', image_format),
                *(self.content, image),
            ],
            timeout=COMMAND_TIMEOUT,
        )
