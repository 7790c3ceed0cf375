# SPDX-License-Identifier: Apache-2.0
"""The hashing: the leaves of a view are written to a file."""

from __future__ import annotations

import contextlib

from nova_snapshot_driver.transfer.formats import chunks
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from nova_snapshot_driver.transfer.formats.leaves import Leaves
from nova_snapshot_driver.transfer.jobs import image_file
from nova_snapshot_driver.transfer.jobs.job import Hash
from nova_snapshot_driver.transfer.jobs.job import Parent
from nova_snapshot_driver.transfer.nbd import source
from nova_snapshot_driver.transfer.nbd.bounds import Bounds


def run(job: Hash, bounds: Bounds, parent: Parent) -> dict[str, int | str]:
    """Hash one view."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(image_file.emptied(job.leaves))
        disk = stack.enter_context(
            source.opened(job.view, bounds, job.directory)
        )
        wanted = chunks.touched(chunks.everything(disk.size))
        leaves = Leaves(file, job.leaves)
        stack.enter_context(image_file.writing(job.leaves))
        with chunks.hashed(disk, wanted) as hashed:
            for done, chunk in enumerate(hashed, 1):
                leaves[chunk.index] = chunk.leaf
                parent.progress(done * CHUNK, wanted.count * CHUNK)
        leaves.sync()
        return {'tree': leaves.tree(disk.size)}
