# SPDX-License-Identifier: Apache-2.0
"""The changes of a disk since its last snapshot, found and written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.transfer.formats import chunks
from nova_snapshot_driver.transfer.formats import leaves
from nova_snapshot_driver.transfer.formats import zeros
from nova_snapshot_driver.transfer.formats.chunks import Chunk
from nova_snapshot_driver.transfer.formats.clusters import Runs
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from nova_snapshot_driver.transfer.formats.leaves import Leaves
from nova_snapshot_driver.transfer.jobs.job import Parent
from nova_snapshot_driver.transfer.jobs.job_fields import Base
from nova_snapshot_driver.transfer.nbd.source import Source


class Image(Protocol):
    """The image or the volume that gets the changes, in their order."""

    def write(self, offset: int, data: memoryview) -> None: ...

    def zero(self, offset: int, length: int) -> None: ...


def write(
    view: View,
    disk: Source,
    base: Base | None,
    own: Leaves,
    image: Image,
    parent: Parent,
) -> int:
    """Write what a disk has that its base lacks.

    :param disk: the content of the view
    :param base: None where there is none, and the image is blank
    :param own: an empty file, which gets the leaves of the disk
    :returns: the bytes that differ from the base
    :raises LeavesDamaged: the leaves of the base are not those of its tree
    """
    if base is not None:
        _inherit(base, disk, own)
    writer = _Writer(image, base.size if base else 0)
    candidates = _candidates(view, disk, base)
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
    return writer.changed


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


def _candidates(view: View, disk: Source, base: Base | None) -> Runs:
    """The clusters that may differ from those of the base."""
    if base is None or not (
        isinstance(view, Export) and view.bitmap is not None
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


class _Writer:
    """Writes parts of chunks: data as data, and zeros as such.

    :param inherited: the bytes of the disk that the base has; beyond, clusters
        that are not written read as zeros
    :ivar changed: the bytes that the image does not inherit
    """

    def __init__(self, image: Image, inherited: int) -> None:
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
