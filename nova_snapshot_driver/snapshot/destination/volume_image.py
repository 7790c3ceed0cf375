# SPDX-License-Identifier: Apache-2.0
"""An image that maps the snapshots of volumes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.cinder import Cinder
from nova_snapshot_driver.snapshot.destination.base import Artefacts
from nova_snapshot_driver.snapshot.destination.base import Proof
from nova_snapshot_driver.snapshot.destination.mapped_image import MappedImage
from nova_snapshot_driver.snapshot.destination.settings import (
    DestinationSettings,
)
from nova_snapshot_driver.snapshot.destination.volume_snapshots import (
    VolumeSnapshots,
)
from nova_snapshot_driver.snapshot.plan.instance import BlockDevices


class VolumeBackedImage(MappedImage):
    """An image in Glance that is nothing but a mapping of snapshots.

    :ivar snapshots: that it maps
    """

    def __init__(
        self,
        settings: DestinationSettings,
        context: Context,
        image: str,
        devices: BlockDevices,
    ) -> None:
        super().__init__(settings, context, image)
        self.snapshots = VolumeSnapshots(
            settings, lambda: Cinder(context.cinder_access()), image, devices
        )

    @property
    def artefacts(self) -> Artefacts:
        return dataclasses.replace(
            super().artefacts, volumes=self.snapshots.volumes
        )

    @contextlib.contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        with (
            super().discarded_on_failure(),
            self.snapshots.discarded_on_failure(),
        ):
            yield

    def describe(self, properties: dict[str, Any]) -> Proof:
        """Write the mapping and the properties, which makes the image active.

        :raises ImageVerificationFailed: Glance does not hold what was written
        """
        dropped = self._show(self.snapshots.mapping(), properties)
        return Proof(0, None, dropped)
