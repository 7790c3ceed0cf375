# SPDX-License-Identifier: Apache-2.0
"""The increment: the changes of a disk become an image over an earlier one."""

from __future__ import annotations

import contextlib

from nova_snapshot_driver.transfer.formats.leaves import Leaves
from nova_snapshot_driver.transfer.formats.qcow2_file import Qcow2File
from nova_snapshot_driver.transfer.jobs import changes
from nova_snapshot_driver.transfer.jobs import image_file
from nova_snapshot_driver.transfer.jobs.job import Increment
from nova_snapshot_driver.transfer.jobs.job import Parent
from nova_snapshot_driver.transfer.nbd import source
from nova_snapshot_driver.transfer.nbd.bounds import Bounds


def run(
    job: Increment, bounds: Bounds, parent: Parent
) -> dict[str, int | str]:
    """Write one increment."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(image_file.emptied(job.path))
        leaves_file = stack.enter_context(image_file.emptied(job.leaves))
        disk = stack.enter_context(
            source.opened(job.view, bounds, job.directory)
        )
        stack.enter_context(image_file.writing(job.path))
        own = Leaves(leaves_file, job.leaves)
        image = Qcow2File(file, disk.size, job.backing)
        changed = changes.write(job.view, disk, job.base, own, image, parent)
        size = image.finish()
        image_file.forget(file)
        own.sync()
        return {
            'size': size,
            'changed': changed,
            'tree': own.tree(disk.size),
        }
