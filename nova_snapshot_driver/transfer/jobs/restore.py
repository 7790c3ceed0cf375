# SPDX-License-Identifier: Apache-2.0
"""The restoring: a view becomes a flat image, if it has the right leaves."""

from __future__ import annotations

import contextlib

from nova_snapshot_driver import exception
from nova_snapshot_driver.transfer.formats import chunks
from nova_snapshot_driver.transfer.formats import zeros
from nova_snapshot_driver.transfer.formats.chunks import Chunk
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from nova_snapshot_driver.transfer.formats.qcow2_file import Qcow2File
from nova_snapshot_driver.transfer.formats.raw_file import RawFile
from nova_snapshot_driver.transfer.jobs import image_file
from nova_snapshot_driver.transfer.jobs import recorded
from nova_snapshot_driver.transfer.jobs.job import Parent
from nova_snapshot_driver.transfer.jobs.job import Restore
from nova_snapshot_driver.transfer.nbd.bounds import Bounds


def run(job: Restore, bounds: Bounds, parent: Parent) -> dict[str, int | str]:
    """Restore one view."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(image_file.emptied(job.path))
        disk, expected = stack.enter_context(recorded.opened(job, bounds))
        stack.enter_context(image_file.writing(job.path))
        image = _image(job.format, file, disk.size)
        wanted = chunks.touched(chunks.everything(disk.size))
        with chunks.hashed(disk, wanted) as hashed:
            for done, chunk in enumerate(hashed, 1):
                if chunk.leaf != expected[chunk.index]:
                    raise exception.DiskDamaged(offset=chunk.offset)
                _write(image, chunk)
                parent.progress(done * CHUNK, wanted.count * CHUNK)
        size = image.finish()
        image_file.forget(file)
        return {'size': size}


def _image(image_format: str, file: int, size: int) -> Qcow2File | RawFile:
    match image_format:
        case 'qcow2':
            return Qcow2File(file, size, backing=None)
        case 'raw':
            return RawFile(file, size)
    raise ValueError(f'{image_format} is not written in one pass')


def _write(image: Qcow2File | RawFile, chunk: Chunk) -> None:
    """Write the data of a chunk: a file of its own has zeros everywhere."""
    if chunk.data is None:
        return
    for begin, end, is_zero in zeros.stretches(chunk.data):
        if not is_zero:
            image.write(chunk.offset + begin, chunk.data[begin:end])
