# SPDX-License-Identifier: Apache-2.0
"""The stream: a view is read, encoded and sent to Glance in one pass."""

from __future__ import annotations

from nova_snapshot_driver import exception
from nova_snapshot_driver.transfer.formats import encode
from nova_snapshot_driver.transfer.formats.content import Content
from nova_snapshot_driver.transfer.jobs import upload
from nova_snapshot_driver.transfer.jobs.job import Parent
from nova_snapshot_driver.transfer.jobs.job import Stream
from nova_snapshot_driver.transfer.nbd import source
from nova_snapshot_driver.transfer.nbd.bounds import Bounds


def run(job: Stream, bounds: Bounds, parent: Parent) -> dict[str, int | str]:
    """Stream one view."""

    def send(content: Content) -> str:
        try:
            return upload.send(content, job, bounds, parent)
        except exception.CompressionOverflow:
            upload.settle(job, parent)
            raise

    with source.opened(job.view, bounds, job.directory) as disk:
        content, digest = encode.write(disk, job.encoding, send)
    return {'size': content.size, upload.ALGORITHM: digest}
