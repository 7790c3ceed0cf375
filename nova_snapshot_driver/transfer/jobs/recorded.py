# SPDX-License-Identifier: Apache-2.0
"""The disk of a snapshot, with the leaves that its record vouches for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.transfer.formats import leaves
from nova_snapshot_driver.transfer.formats.leaves import Leaves
from nova_snapshot_driver.transfer.jobs.job import Restore
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.nbd import source
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from nova_snapshot_driver.transfer.nbd.source import Source


@contextlib.contextmanager
def opened(
    job: Restore | Verify, bounds: Bounds
) -> Iterator[tuple[Source, Leaves]]:
    """The view of a job, and its leaves.

    :raises LeavesDamaged: they are not those of the record
    :raises SourceUnreadable: nor is the size of the disk, or it can't be read
    """
    with (
        leaves.opened(job.leaves) as expected,
        source.opened(job.view, bounds, job.directory) as disk,
    ):
        expected.check(job.size, job.tree)
        if disk.size != job.size:
            raise exception.SourceUnreadable(
                reason=f'the image is that of a disk of {disk.size} bytes, '
                f'and not of {job.size}'
            )
        yield disk, expected
