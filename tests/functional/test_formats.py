# SPDX-License-Identifier: Apache-2.0
"""The formats of the image."""

from __future__ import annotations

import json

from lab.bounded import run
from lab.disks import Layer
from lab.options import GuestOptions
from tests.functional import base


class FormatsTest(base.SnapshotTest):
    options = GuestOptions('formats')

    def test_every_format(self) -> None:
        for image_format in ('raw', 'qcow2', 'vmdk', 'vdi'):
            for path in ('backup', 'mirror', 'cold'):
                last = self.guest.ticks.last
                driver = self.driver(method=path, image_format=image_format)
                snapshot, image = self.snapshot(driver)
                self.assertEqual(image_format, snapshot.disks[0].disk_format)
                self.assertEqual(image_format, _format_of(image))
                self.examine(image, last)

    def test_image_stands_alone(self) -> None:
        _snapshot, image = self.snapshot(self.driver())
        self.assertNotIn('backing-filename', _info(image))

    def test_image_is_private(self) -> None:
        _snapshot, image = self.snapshot(self.driver())
        self.assertEqual(0o600, image.path.stat().st_mode & 0o777)

    def test_raw_image_is_sparse(self) -> None:
        _snapshot, image = self.snapshot(self.driver(image_format='raw'))
        status = image.path.stat()
        self.assertLess(status.st_blocks * 512, status.st_size // 2)

    def test_compression(self) -> None:
        """Incompressible content stays, and other content gets smaller."""
        self.guest.agent_exec(
            'yes | dd of=/data/yes bs=1M count=16 iflag=fullblock && sync'
        )
        self.addCleanup(self.guest.agent_exec, 'rm /data/yes')
        _snapshot, image = self.snapshot(self.driver())
        plain = image.path.stat().st_size
        last = self.guest.ticks.last
        _snapshot, image = self.snapshot(self.driver(compression=True))
        self.examine(image, last)
        self.assertLess(image.path.stat().st_size, plain - (12 << 20))


def _info(image: Layer) -> dict[str, object]:
    info: dict[str, object] = json.loads(
        run(
            ['qemu-img', 'info', '--output=json', image.path],
            timeout=60,
        )
    )
    return info


def _format_of(image: Layer) -> object:
    return _info(image)['format']
