# SPDX-License-Identifier: Apache-2.0
"""The process that does the jobs on a chain."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.state.chain import Chain
from nova_snapshot_driver.state.chain_record import ChainRecord
from nova_snapshot_driver.transfer.jobs.job import Hash
from nova_snapshot_driver.transfer.worker import Worker


class ChainWorker(Worker):
    """Does the jobs on a chain."""

    @contextlib.contextmanager
    def leaves(self, chain: Chain, record: ChainRecord) -> Iterator[str]:
        """The path of a file with the leaves of a snapshot.

        Where they are missing, the disk is hashed anew: the record still
        vouches for the result.

        :raises LeavesDamaged: the disk is not as it was
        """
        if chain.has_leaves(record.name):
            yield chain.leaves_path(record.name)
            return
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'leaves')
            self._rebuild(chain.layer(record), record, path)
            yield path

    def _rebuild(self, layer: Layer, record: ChainRecord, path: str) -> None:
        tree = self.run(lambda directory: Hash(layer, path, directory))
        if tree != record.tree:
            raise exception.LeavesDamaged(
                path=record.leaves,
                reason='the file is missing, and the disk has other hashes '
                'than its record says',
            )
