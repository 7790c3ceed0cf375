# SPDX-License-Identifier: Apache-2.0
"""The saving: a view is read, encoded and written to a file in one pass."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.transfer.formats import encode
from nova_snapshot_driver.transfer.formats import zeros
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.content import Content
from nova_snapshot_driver.transfer.formats.content import Zeros
from nova_snapshot_driver.transfer.jobs import image_file
from nova_snapshot_driver.transfer.jobs.job import Parent
from nova_snapshot_driver.transfer.jobs.job import Save
from nova_snapshot_driver.transfer.nbd import source
from nova_snapshot_driver.transfer.nbd.bounds import Bounds


def run(job: Save, bounds: Bounds, parent: Parent) -> dict[str, int | str]:
    """Save one view."""

    def write(content: Content) -> None:
        with _unusable(job.path):
            _write(content, file, parent)

    with contextlib.ExitStack() as stack:
        with _unusable(job.path):
            file = stack.enter_context(image_file.opened(job.path))
        if os.fstat(file).st_size:
            raise exception.OutputExists(path=job.path)
        disk = stack.enter_context(
            source.opened(job.view, bounds, job.directory)
        )
        content, _ = encode.write(disk, job.encoding, write)
        return {'size': content.size}


@contextlib.contextmanager
def _unusable(path: str) -> Iterator[None]:
    """Say of which directory an error is, and which option names it."""
    try:
        yield
    except OSError as error:
        raise exception.DirectoryUnusable(
            directory=os.path.dirname(path),
            reason=error.strerror,
            option='--output',
        ) from error


def _write(content: Content, file: int, parent: Parent) -> None:
    """Write to a file in which zeros take no room."""
    position = 0
    # An attempt before this one may have left data where zeros are to be.
    os.ftruncate(file, 0)
    os.ftruncate(file, content.size)
    with content.pieces() as pieces:
        for piece in pieces:
            match piece:
                case Zeros(length):
                    position += length
                case block:
                    _write_block(file, block, position)
                    position += len(block)
            parent.progress(position, content.size)
    # An error of the storage shows now, or never.
    os.fsync(file)


def _write_block(file: int, block: memoryview, position: int) -> None:
    for begin in range(0, len(block), CLUSTER):
        data = block[begin : begin + CLUSTER]
        if zeros.is_zero(data):
            continue
        while data:
            written = os.pwrite(file, data, position + begin)
            begin += written
            data = data[written:]
