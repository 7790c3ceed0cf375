# SPDX-License-Identifier: Apache-2.0
"""The verification of a chain: each disk is read, and compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.chain.worker import ChainWorker
from nova_snapshot_driver.state.chain import Chain
from nova_snapshot_driver.state.chain_record import ChainRecord
from nova_snapshot_driver.transfer.jobs.job import Verdict
from nova_snapshot_driver.transfer.jobs.job import Verify

#: The errors that are about one snapshot; others may be intact.
OF_A_SNAPSHOT = (
    exception.ChainBroken,
    exception.CommandFailed,
    exception.LeavesDamaged,
    exception.SourceUnreadable,
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result for one snapshot.

    :ivar verdict: None where the snapshot can't be read
    :ivar error: why not
    """

    name: str
    verdict: Verdict | None
    error: exception.SnapshotError | None = None

    @property
    def is_intact(self) -> bool:
        return self.verdict is not None and not self.verdict.damaged


def verify(
    chain: Chain, names: Collection[str], worker: ChainWorker
) -> Iterator[Finding]:
    """Verify snapshots, each when the one before is dealt with.

    :param names: of the snapshots; all of them where there is none
    :raises ChainSnapshotNotFound: there is no such snapshot; none is verified
    """
    with chain.reading():
        records = (
            [chain.record(name) for name in names]
            if names
            else chain.records()
        )
        for record in records:
            yield _finding(chain, record, worker)


def _finding(
    chain: Chain, record: ChainRecord, worker: ChainWorker
) -> Finding:
    try:
        return Finding(record.name, _verdict(chain, record, worker))
    except OF_A_SNAPSHOT as error:
        return Finding(record.name, None, error)


def _verdict(
    chain: Chain, record: ChainRecord, worker: ChainWorker
) -> Verdict:
    layer = chain.layer(record)
    with worker.leaves(chain, record) as leaves:
        return worker.run(
            lambda directory: Verify(
                view=layer,
                leaves=leaves,
                tree=record.tree,
                size=record.size,
                base_leaves=None,
                directory=directory,
            )
        )
