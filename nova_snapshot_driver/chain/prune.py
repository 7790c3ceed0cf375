# SPDX-License-Identifier: Apache-2.0
"""The pruning of a chain: its oldest snapshots go.

The oldest one that stays becomes full. Its image is replaced by one with the
same content, under the same name, by which those after it refer to it. A crash
at any moment leaves a chain of which every snapshot can be read; pruning again
does the rest.
"""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver.chain import restore
from nova_snapshot_driver.chain.worker import ChainWorker
from nova_snapshot_driver.common.way import Way
from nova_snapshot_driver.state import chain as chains
from nova_snapshot_driver.state.chain import Chain
from nova_snapshot_driver.state.chain_record import ChainRecord

#: The reason why a snapshot is full that was an increment once.
MERGED = 'the ones before it were pruned'


@dataclasses.dataclass(frozen=True)
class Pruned:
    """The changes to a chain.

    :ivar removed: the names of the snapshots that are gone, oldest first
    :ivar kept: the names of those that are there
    :ivar merged: the name of the one that is full now; None for none
    """

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    merged: str | None


def prune(chain: Chain, keep: int, worker: ChainWorker) -> Pruned:
    """Remove all but the newest snapshots.

    :param keep: how many stay, at least one
    """
    with chain.locked_against_readers():
        records = chain.records()
        removed, kept = records[:-keep], records[-keep:]
        oldest = kept[0] if kept else None
        merged = None
        if oldest is not None and oldest.parent is not None:
            _merge(chain, oldest, worker)
            merged = oldest.name
        # Each one needs none that is newer than itself.
        for record in reversed(removed):
            chain.remove(record)
    return Pruned(_names(removed), _names(kept), merged)


def _merge(chain: Chain, record: ChainRecord, worker: ChainWorker) -> None:
    """Have a snapshot need none of those before it."""
    _write_draft(chain, record, worker)
    chain.replace_image(record)
    chain.write_record(
        dataclasses.replace(
            record,
            parent=None,
            way=Way.FULL,
            reason=MERGED,
            written=chain.image_size(record),
        )
    )


def _write_draft(
    chain: Chain, record: ChainRecord, worker: ChainWorker
) -> None:
    path = chain.image_draft(record.name)
    try:
        restore.write_flat(chain, record, path, chains.FORMAT, worker)
    except BaseException:
        chain.discard_drafts(record.name)
        raise


def _names(records: list[ChainRecord]) -> tuple[str, ...]:
    return tuple(record.name for record in records)
