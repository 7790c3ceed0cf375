# SPDX-License-Identifier: Apache-2.0
"""A host whose guest has its snapshots in a volume of Cinder."""

from __future__ import annotations

import dataclasses
from typing import Any

from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.snapshot.destination import standing
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.instance import Target
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.state.ledger import Ledger
from nova_snapshot_driver.takings import cinder_snapshots
from tests import laws
from tests.unit import documents
from tests.unit.fake_cinder import PROJECT
from tests.unit.host import FakeHost

INSTANCE = Instance(documents.UUID, target=Target.VOLUME, name='web-1')


class ShadowHost(FakeHost):
    """A host that takes snapshots into a shadow volume."""

    def _setUp(self) -> None:
        super()._setUp()
        self.image = self.new_image()
        self.set('snapshot', 'volume_timeout', 2)

    def new_image(self, **fields: Any) -> str:
        return self.glance.add(
            **{'name': 'monday', 'owner': PROJECT, **fields}
        )

    def take(self, **fields: Any) -> Snapshot:
        """Take a snapshot into an image of its own, which is kept."""
        self.image = self.new_image()
        return self.snapshot(instance=dataclasses.replace(INSTANCE, **fields))

    def snapshot(
        self,
        connection: Any = None,
        cancellation: Cancellation | None = None,
        instance: Instance | None = None,
        update_task_state: Any = None,
        progress: Progress = silent,
    ) -> Snapshot:
        return super().snapshot(
            connection,
            cancellation,
            instance or INSTANCE,
            update_task_state,
            progress,
        )

    @property
    def volume(self) -> dict[str, Any]:
        """The only volume."""
        (volume,) = self.cinder.volumes.values()
        return volume

    def marked(self) -> list[str]:
        """The images for which there are snapshots in Cinder."""
        return [
            snapshot['metadata'][cinder_snapshots.MARK]
            for snapshot in self.cinder.snapshots.values()
            if snapshot['status'] != 'deleting'
        ]

    def newest(self) -> dict[str, Any] | None:
        """The newest snapshot in Cinder that is complete."""
        complete = self.complete()
        return complete[-1] if complete else None

    def complete(self) -> list[dict[str, Any]]:
        """The snapshots in Cinder that are complete, oldest first."""
        return sorted(
            (
                each
                for each in self.cinder.snapshots.values()
                if each['metadata'].get(standing.SETTLED)
            ),
            key=lambda each: str(each['created_at']),
        )

    def bitmaps(self) -> list[str]:
        return list(self.machine.bitmaps.get('vda', {}))

    def differences(self, before: laws.Before) -> list[str]:
        """The breaches of the laws, in Cinder too."""
        found = super().differences(before)
        found += [
            f'volume {each["volume_id"]} is attached'
            for each in self.cinder.attachments.values()
        ]
        image = self.glance.images.get(self.image)
        is_complete = image is not None and image['status'] == 'active'
        if is_complete != (self.image in self.marked()):
            found.append('the image and its snapshot are not both there')
        for volume in self.cinder.volumes:
            snapshots = [
                each
                for each in self.cinder.snapshots.values()
                if each['volume_id'] == volume
            ]
            if not snapshots:
                found.append(f'volume {volume} is of no use')
        left = set(self.bitmaps()) - self.kept_bitmaps()
        return [*found, *(f'the bitmap {name} is left' for name in left)]

    def kept_bitmaps(self) -> set[str]:
        """The bitmaps that may be there.

        A lost one is in nobody's way: the next snapshot compares. Where the
        ledger has not heard of the newest snapshot, the bitmap before it stays
        until then.
        """
        known = Ledger(self.directories.state).images(documents.UUID, 'vda')
        complete = self.complete()
        is_known = complete and (
            complete[-1]['metadata'][cinder_snapshots.MARK] in known
        )
        return {
            each['metadata'][standing.BITMAP]
            for each in complete[-1 if is_known else -2 :]
        }

    def newest_bitmap(self) -> str | None:
        """The bitmap that the next snapshot may go by."""
        newest = self.newest()
        return (newest and newest['metadata'][standing.BITMAP]) or None
