# SPDX-License-Identifier: Apache-2.0
"""The restoring of a snapshot: its disk becomes a file of its own."""

from __future__ import annotations

import contextlib
import os

from nova_snapshot_driver import exception
from nova_snapshot_driver.chain.worker import ChainWorker
from nova_snapshot_driver.common.new_file import NewFile
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.state.chain import Chain
from nova_snapshot_driver.state.chain_record import ChainRecord
from nova_snapshot_driver.transfer.jobs.job import Restore
from nova_snapshot_driver.transfer.jobs.job import Verify


def restore(
    chain: Chain,
    name: str,
    file: NewFile,
    image_format: str,
    worker: ChainWorker,
) -> tuple[ChainRecord, int]:
    """Write the disk of a snapshot to a file, which appears once it is proven.

    :param image_format: qcow2 or raw
    :returns: the record of the snapshot, and the size of the file
    :raises OutputExists: the file is there; nothing is touched
    :raises DiskDamaged: the disk is not as it was when it was captured
    """
    file.check()
    with chain.reading():
        record = chain.record(name)
        try:
            size = write_flat(chain, record, file.draft, image_format, worker)
            file.publish()
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.draft)
    return record, size


def write_flat(
    chain: Chain,
    record: ChainRecord,
    path: str,
    image_format: str,
    worker: ChainWorker,
) -> int:
    """Write the disk of a snapshot into an image that needs no other one.

    The image is read again, and compared with what the disk was.

    :returns: the size of the image
    """
    layer = chain.layer(record)
    with worker.leaves(chain, record) as leaves:
        size = worker.run(
            lambda directory: Restore(
                view=layer,
                leaves=leaves,
                tree=record.tree,
                size=record.size,
                format=image_format,
                path=path,
                directory=directory,
            )
        )
        verdict = worker.run(
            lambda directory: Verify(
                view=Layer(path, image_format, is_last=True),
                leaves=leaves,
                tree=record.tree,
                size=record.size,
                base_leaves=None,
                directory=directory,
            )
        )
    if verdict.damaged:
        raise exception.FileUnwritable(
            path=path,
            reason='it does not hold what was written, from '
            f'{verdict.offsets[0] if verdict.offsets else 0} on',
        )
    return size
