# SPDX-License-Identifier: Apache-2.0
"""The image is the disk at the instant, to the bit.

The guest writes all the time. It is paused just before the backup job is
begun, its topmost image is copied, and it runs on when the job is there: what
it writes from then on is in neither.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import ClassVar

from lab.bounded import run
from lab.disks import Layer
from lab.secret import passphrase_file
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from tests.functional import base
from tests.functional import meanwhile

#: Seconds
TIMEOUT = 120

STREAMED = (
    Encoding('raw'),
    Encoding('qcow2'),
    Encoding('qcow2', 'zstd'),
    Encoding('qcow2', 'zlib'),
)


class Exactness(base.SnapshotTest):
    """For one kind of source.

    :cvar encodings: of the images
    """

    encodings: ClassVar[tuple[Encoding, ...]] = STREAMED

    def test_image_is_the_disk_at_the_instant(self) -> None:
        for encoding in self.encodings:
            with self.subTest(str(encoding)):
                self.is_exact(encoding)
        self.guest.still_counts()

    def is_exact(self, encoding: Encoding) -> Snapshot:
        """A snapshot whose image is compared."""
        meanwhile.write_mark(self.guest)
        reference = self.directory / 'reference'
        kept: list[Path] = []

        def stop_and_copy() -> None:
            self.guest.domain.suspend()
            copy_of_disk(self.guest.disk.path, reference)

        def go_on_and_overwrite() -> None:
            self.guest.domain.resume()
            meanwhile.overwrite_mark(self.guest)
            self.guest.still_counts()
            kept.extend(meanwhile.files_with_mark(self.snapshots))

        with self.meanwhile('backupBegin', stop_and_copy) as connection:
            snapshot, image = self.snapshot(
                self.driver(
                    connection,
                    quiesce='never',
                    image_format=encoding.format,
                    compression=encoding.compression is not None,
                    compression_type=encoding.compression or 'zstd',
                    environment=meanwhile.Exported(go_on_and_overwrite),
                )
            )
        self.assertEqual('backup', snapshot.method)
        # Nothing else still had it, and the one of an encrypted disk has it
        # otherwise.
        if not self.guest.disk.encrypted:
            self.assertEqual(['scratch-vda'], [file.name for file in kept])
        self._compare(reference, image)
        self._check(image)
        return snapshot

    def _compare(self, reference: Path, image: Layer) -> None:
        disk = dataclasses.replace(self.guest.disk, path=reference)
        passphrase = passphrase_file(self.directory)
        run(
            [
                *('qemu-img', 'compare'),
                *('--object', f'secret,id=key,file={passphrase}'),
                *('--image-opts', _options(disk), _options(image)),
            ],
            timeout=TIMEOUT,
        )

    def _check(self, image: Layer) -> None:
        if image.format != 'raw':
            run(
                ['qemu-img', 'check', '-f', image.format, image.path],
                timeout=TIMEOUT,
            )


def copy_of_disk(source: Path, target: Path) -> None:
    """Copy a file or a device; nobody writes to it."""
    target.unlink(missing_ok=True)
    if source.is_block_device():
        with source.open('rb') as device, target.open('wb') as file:
            shutil.copyfileobj(device, file, 1 << 20)
        return
    run(['cp', '--sparse=always', source, target], timeout=TIMEOUT)


def _options(image: Layer) -> str:
    options = f'driver={image.format},file.filename={image.path}'
    if image.encrypted:
        options += ',encrypt.key-secret=key'
    return options
