# SPDX-License-Identifier: Apache-2.0
"""The saving: a view is read, encoded and written to a file in one pass."""

from __future__ import annotations

import os
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.transfer import encode
from nova_snapshot_driver.transfer import source
from nova_snapshot_driver.transfer import zeros
from nova_snapshot_driver.transfer.clusters import CLUSTER
from nova_snapshot_driver.transfer.content import Content
from nova_snapshot_driver.transfer.content import Zeros
from nova_snapshot_driver.transfer.job import Parent
from nova_snapshot_driver.transfer.job import view_from_dict
from nova_snapshot_driver.transfer.throttle import Throttle


def run(job: dict[str, Any], parent: Parent) -> dict[str, Any]:
    """Save one view.

    :param job: ``view``, ``encoding``, ``path`` and ``bandwidth``
    :raises OutputExists: there is a file, and it is not empty
    :raises DirectoryUnusable: the file can't be written, or not to its end
    :raises SourceUnreadable: the view, in whole or in part
    """
    path = job['path']
    try:
        return _save(job, path, parent)
    except OSError as error:
        raise exception.DirectoryUnusable(
            directory=os.path.dirname(path),
            reason=error.strerror,
            option='--output',
        ) from error


def _save(job: dict[str, Any], path: str, parent: Parent) -> dict[str, Any]:
    view = view_from_dict(job['view'])
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(file, 0o600)
        if os.fstat(file).st_size:
            raise exception.OutputExists(path=path)
        with source.opened(view, Throttle(job['bandwidth'])) as disk:
            content, _ = encode.write(
                disk,
                Encoding(**job['encoding']),
                lambda content: _write(content, file, parent),
            )
            return {'size': content.size}
    finally:
        os.close(file)


def _write(content: Content, file: int, parent: Parent) -> None:
    """Write to a file in which zeros take no room."""
    position = 0
    # An attempt before this one may have left data where zeros are to be.
    os.ftruncate(file, 0)
    os.ftruncate(file, content.size)
    with content.pieces() as pieces:
        for piece in pieces:
            match piece:
                case Zeros(length):
                    position += length
                case block:
                    _write_block(file, block, position)
                    position += len(block)
            parent.progress(position, content.size)
    # An error of the storage shows now, or never.
    os.fsync(file)


def _write_block(file: int, block: memoryview, position: int) -> None:
    for begin in range(0, len(block), CLUSTER):
        data = block[begin : begin + CLUSTER]
        if zeros.is_zero(data):
            continue
        while data:
            written = os.pwrite(file, data, position + begin)
            begin += written
            data = data[written:]
