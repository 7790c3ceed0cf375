# SPDX-License-Identifier: Apache-2.0
"""A host whose guest has a chain of files, with one snapshot in it."""

from __future__ import annotations

import json
from typing import Any

from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from tests.unit import documents
from tests.unit.host import FakeHost

#: The snapshot that is there, and the one that is taken.
BEFORE = 'monday'
TAKEN = 'tuesday'


class ChainHost(FakeHost):
    """A host that takes snapshots into a chain."""

    def _setUp(self) -> None:
        super()._setUp()
        self.chain = self.root / 'chain'

    def begin(self) -> None:
        """Take the first snapshot of the chain."""
        self.take(BEFORE)

    def take(
        self,
        name: str | None,
        connection: Any = None,
        cancellation: Cancellation | None = None,
        progress: Progress = silent,
    ) -> Snapshot:
        return self.driver(connection).snapshot_to_chain(
            Instance(documents.NAME),
            str(self.chain),
            name,
            progress,
            cancellation,
        )

    def snapshot(
        self,
        connection: Any = None,
        cancellation: Cancellation | None = None,
        instance: Instance | None = None,
        update_task_state: Any = None,
        progress: Progress = silent,
    ) -> Snapshot:
        """Take the second snapshot."""
        return self.take(TAKEN, connection, cancellation, progress)

    def bitmaps(self) -> list[str]:
        return list(self.machine.bitmaps.get('vda', {}))

    def record(self, name: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(
            (self.chain / f'{name}.json').read_text()
        )
        return record

    def has(self, name: str) -> bool:
        """Whether the chain has a snapshot."""
        return (self.chain / f'{name}.json').exists()

    def wrong_bitmaps(self) -> list[str]:
        """The differences from the one bitmap that is to be there."""
        newest = self.record(TAKEN if self.has(TAKEN) else BEFORE)
        wanted = {newest['bitmap']} - {None}
        found = set(self.bitmaps())
        return [
            *(f'{name} is lost' for name in wanted - found),
            *(f'{name} is left' for name in found - wanted),
        ]
