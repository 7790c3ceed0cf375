# SPDX-License-Identifier: Apache-2.0
"""The update: the changes of a disk are written over its last snapshot."""

from __future__ import annotations

import contextlib

from nova_snapshot_driver.transfer.formats.leaves import Leaves
from nova_snapshot_driver.transfer.jobs import changes
from nova_snapshot_driver.transfer.jobs import image_file
from nova_snapshot_driver.transfer.jobs.job import Parent
from nova_snapshot_driver.transfer.jobs.job import Update
from nova_snapshot_driver.transfer.nbd import source
from nova_snapshot_driver.transfer.nbd import target
from nova_snapshot_driver.transfer.nbd.bounds import Bounds


def run(job: Update, bounds: Bounds, parent: Parent) -> dict[str, int | str]:
    """Update one volume."""
    with contextlib.ExitStack() as stack:
        leaves_file = stack.enter_context(image_file.emptied(job.leaves))
        disk = stack.enter_context(
            source.opened(job.view, bounds, job.directory)
        )
        volume = stack.enter_context(
            target.opened(job.volume, bounds, job.directory)
        )
        stack.enter_context(image_file.writing(job.leaves))
        own = Leaves(leaves_file, job.leaves)
        changed = changes.write(job.view, disk, job.base, own, volume, parent)
        size = volume.finish()
        own.sync()
        return {
            'size': size,
            'changed': changed,
            'tree': own.tree(disk.size),
        }
