# SPDX-License-Identifier: Apache-2.0
"""The increment: the changes of a disk become an image over an earlier one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.transfer.formats import chunks
from nova_snapshot_driver.transfer.formats import leaves
from nova_snapshot_driver.transfer.formats import zeros
from nova_snapshot_driver.transfer.formats.chunks import Chunk
from nova_snapshot_driver.transfer.formats.clusters import Runs
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from nova_snapshot_driver.transfer.formats.leaves import Leaves
from nova_snapshot_driver.transfer.formats.qcow2_file import Qcow2File
from nova_snapshot_driver.transfer.jobs import image_file
from nova_snapshot_driver.transfer.jobs.job import Increment
from nova_snapshot_driver.transfer.jobs.job import Parent
from nova_snapshot_driver.transfer.jobs.job_fields import Base
from nova_snapshot_driver.transfer.nbd import source
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from nova_snapshot_driver.transfer.nbd.source import Source


def run(
    job: Increment, bounds: Bounds, parent: Parent
) -> dict[str, int | str]:
    """Write one increment."""
    base = job.base
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(image_file.emptied(job.path))
        leaves_file = stack.enter_context(image_file.emptied(job.leaves))
        disk = stack.enter_context(
            source.opened(job.view, bounds, job.directory)
        )
        stack.enter_context(image_file.writing(job.path))
        own = Leaves(leaves_file, job.leaves)
        if base is not None:
            _inherit(base, disk, own)
        image = Qcow2File(file, disk.size, base.image if base else None)
        writer = _Writer(image, base.size if base else 0)
        _write(disk, _candidates(job, disk), own, writer, parent)
        size = image.finish()
        image_file.forget(file)
        own.sync()
        return {
            'size': size,
            'changed': writer.changed,
            'tree': own.tree(disk.size),
        }


def _inherit(base: Base, disk: Source, own: Leaves) -> None:
    """Begin with the leaves of the base.

    :raises LeavesDamaged: they are not those that were written
    """
    if disk.size < base.size:
        raise exception.SourceUnreadable(
            reason=f'the disk has {disk.size} bytes, and had {base.size}: a '
            'disk that has shrunk has no increment'
        )
    with leaves.opened(base.leaves) as inherited:
        inherited.check(base.size, base.tree)
        inherited.copy_to(own)


def _candidates(job: Increment, disk: Source) -> Runs:
    """The clusters that may differ from those of the base."""
    base = job.base
    if base is None or not (
        isinstance(job.view, Export) and job.view.bitmap is not None
    ):
        return chunks.everything(disk.size)
    return Runs.of_bytes(_dirty(disk, base.size))


def _dirty(disk: Source, base_size: int) -> Iterator[tuple[int, int]]:
    """The extents that were written since the base, as (offset, end).

    A disk that grows does not mark its new end dirty, which is not in the base
    either.
    """
    for begin, end in disk.dirty():
        if begin < base_size:
            yield begin, min(end, base_size)
    if disk.size > base_size:
        yield base_size, disk.size


def _write(
    disk: Source,
    candidates: Runs,
    own: Leaves,
    writer: _Writer,
    parent: Parent,
) -> None:
    """Write the candidates that lie in chunks with another hash.

    :param own: the leaves of the base, which become those of the disk
    """
    wanted = chunks.touched(candidates)
    parts = chunks.within(wanted, candidates, disk.size)
    with chunks.hashed(disk, wanted) as hashed:
        for done, (chunk, (_, candidates_in_chunk)) in enumerate(
            zip(hashed, parts, strict=True), 1
        ):
            if own[chunk.index] != chunk.leaf:
                own[chunk.index] = chunk.leaf
                for offset, length in candidates_in_chunk:
                    writer.write(chunk, offset, length)
            parent.progress(done * CHUNK, wanted.count * CHUNK)


class _Writer:
    """Writes parts of chunks: data as data, and zeros as such.

    :param inherited: the bytes of the disk that the base has; beyond, clusters
        that are not written read as zeros
    :ivar changed: the bytes that the image does not inherit
    """

    def __init__(self, image: Qcow2File, inherited: int) -> None:
        self._image = image
        self._inherited = inherited
        self.changed = 0

    def write(self, chunk: Chunk, offset: int, length: int) -> None:
        if chunk.data is None:
            self._zero(offset, offset + length)
            return
        begin = offset - chunk.offset
        data = chunk.data[begin : begin + length]
        for first, end, is_zero in zeros.stretches(data):
            if is_zero:
                self._zero(offset + first, offset + end)
            else:
                self._image.write(offset + first, data[first:end])
                self.changed += end - first

    def _zero(self, begin: int, end: int) -> None:
        length = min(end, self._inherited) - begin
        if length > 0:
            self._image.zero(begin, length)
            self.changed += length
