# SPDX-License-Identifier: Apache-2.0
"""Encrypted disks, whose content is never in plain text on the host.

The image is in plain text, as Nova's is.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from lab.bounded import run
from lab.options import GuestOptions
from lab.options import Shape
from lab.secret import PASSPHRASE
from nova_snapshot_driver import exception
from nova_snapshot_driver.driver import SnapshotDriver
from tests.functional import base
from tests.functional import meanwhile

TIMEOUT = 60


class EncryptedDiskTest(base.SnapshotTest):
    options = GuestOptions('luks', Shape.LUKS)

    def test_running(self) -> None:
        meanwhile.write_mark(self.guest)
        last = self.guest.ticks.last
        found: list[str] = []

        def overwrite_and_look() -> None:
            meanwhile.overwrite_mark(self.guest)
            [scratch] = self.snapshots.glob('*/scratch-vda')
            found.append(_encryption_of(scratch))
            self._no_plain_text()

        driver = self.driver(
            image_format='raw',
            environment=meanwhile.Exported(overwrite_and_look),
        )
        snapshot, image = self.snapshot(driver)
        self.assertEqual(['luks'], found)
        self.assertEqual('backup', snapshot.method)
        self.assertTrue(snapshot.quiesced)
        # The look would have found it.
        self.assertIn(image.path, meanwhile.files_with_mark(image.path.parent))
        self.examine(image, last)
        self.guest.still_counts()

    def test_guest_does_not_stand_still(self) -> None:
        """QEMU would take seconds to make an encrypted file by itself."""
        self.guest.still_counts()
        began = time.monotonic()
        snapshot, _image = self.snapshot(self.driver())
        self.assertTrue(snapshot.quiesced)
        gap = self.guest.ticks.longest_gap(began, time.monotonic())
        self.assertLess(gap, 2)

    def test_paused(self) -> None:
        self.guest.domain.suspend()
        self.addCleanup(self.guest.still_counts)
        self.addCleanup(self.guest.domain.resume)
        last = self.guest.ticks.last
        _snapshot, image = self.snapshot(self.driver())
        self.assertTrue(self.guest.paused)
        self.examine(image, last)

    def test_shut_off(self) -> None:
        last = self.guest.ticks.last
        self.guest.shutdown()
        self.addCleanup(self.guest.boot)
        self._is_read_at_rest(last)

    def test_suspended(self) -> None:
        last = self.guest.ticks.last
        self.guest.domain.managedSave()
        self.addCleanup(self.guest.still_counts)
        self.addCleanup(lambda: self.guest.domain.create())
        self._is_read_at_rest(last)

    def _is_read_at_rest(self, last: int) -> None:
        servers: list[bytes] = []

        def look(step: str, done: int, total: int) -> None:
            self._no_plain_text()
            servers.extend(
                line for line in _command_lines() if b'qemu-nbd' in line
            )

        snapshot, image = self.snapshot(self.driver(), progress=look)
        self.assertEqual('cold', snapshot.method)
        self.assertTrue(snapshot.streamed)
        self.assertNotEqual([], servers)
        self.examine(image, last)

    def _no_plain_text(self) -> None:
        self.assertEqual(
            [], meanwhile.files_with_mark(self.snapshots, self.state)
        )
        passphrase = PASSPHRASE.encode()
        self.assertEqual(
            [], [line for line in _command_lines() if passphrase in line]
        )

    def test_plain_copy_is_refused(self) -> None:
        """Before the guest, or anything else, is touched."""
        for driver in (
            self.driver(method='mirror'),
            self.driver(method='cold'),
            self.driver(image_format='vmdk'),
        ):
            self._is_refused(driver)
        self.guest.still_counts()

    def _is_refused(self, driver: SnapshotDriver) -> None:
        error = self.snapshot_fails(exception.NotSupported, driver)
        self.assertIn('encrypted', str(error))
        self.assertFalse(self.snapshots.exists())


def _encryption_of(image: Path) -> str:
    info = json.loads(
        run(
            [
                *('qemu-img', 'info', '--force-share', '--output=json'),
                *('-f', 'qcow2', image),
            ],
            timeout=TIMEOUT,
        )
    )
    return str(info['format-specific']['data']['encrypt']['format'])


def _command_lines() -> list[bytes]:
    found = []
    for file in Path('/proc').glob('[0-9]*/cmdline'):
        # The process may have ended meanwhile.
        with contextlib.suppress(OSError):
            found.append(file.read_bytes())
    return found
