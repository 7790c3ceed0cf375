# SPDX-License-Identifier: Apache-2.0
"""The verification: a view is read, and compared with its leaves."""

from __future__ import annotations

import contextlib
from typing import Any

from nova_snapshot_driver.transfer.formats import chunks
from nova_snapshot_driver.transfer.formats import leaves
from nova_snapshot_driver.transfer.formats.clusters import Runs
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from nova_snapshot_driver.transfer.formats.leaves import Leaves
from nova_snapshot_driver.transfer.jobs import recorded
from nova_snapshot_driver.transfer.jobs.job import Parent
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.nbd.bounds import Bounds

#: How many damaged chunks are named.
NAMED = 16


def run(job: Verify, bounds: Bounds, parent: Parent) -> dict[str, Any]:
    """Verify one view."""
    with contextlib.ExitStack() as stack:
        disk, expected = stack.enter_context(recorded.opened(job, bounds))
        base = (
            None
            if job.base_leaves is None
            else stack.enter_context(leaves.opened(job.base_leaves))
        )
        wanted = _wanted(disk.size, expected, base)
        damaged = 0
        offsets = []
        hashed = stack.enter_context(chunks.hashed(disk, wanted))
        for done, chunk in enumerate(hashed, 1):
            if chunk.leaf != expected[chunk.index]:
                damaged += 1
                if damaged <= NAMED:
                    offsets.append(chunk.offset)
            parent.progress(done * CHUNK, wanted.count * CHUNK)
        return {'damaged': damaged, 'offsets': offsets}


def _wanted(size: int, expected: Leaves, base: Leaves | None) -> Runs:
    """The runs of chunks that are read."""
    if base is None:
        return chunks.touched(chunks.everything(size))
    return Runs(
        (index, index + 1)
        for index in range(leaves.count(size))
        if expected[index] != base[index]
    )
