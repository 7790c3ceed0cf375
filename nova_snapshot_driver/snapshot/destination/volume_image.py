# SPDX-License-Identifier: Apache-2.0
"""An image that maps the snapshots of volumes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.cinder import Cinder
from nova_snapshot_driver.clients.image import Image
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.snapshot.destination.base import Artefacts
from nova_snapshot_driver.snapshot.destination.base import Proof
from nova_snapshot_driver.snapshot.destination.image_record import ImageRecord
from nova_snapshot_driver.snapshot.destination.settings import (
    DestinationSettings,
)
from nova_snapshot_driver.snapshot.destination.volume_snapshots import (
    VolumeSnapshots,
)
from nova_snapshot_driver.snapshot.plan.instance import BlockDevices

#: The disk format of an image without data: Glance demands one.
DISK_FORMAT = 'raw'


class VolumeBackedImage(ImageRecord):
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
        self._dropped: tuple[str, ...] = ()
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

    def name(self) -> str:
        """The name of the image in Glance."""
        return self.glance().get(self.image).name or ''

    def describe(self, properties: dict[str, Any]) -> Proof:
        """Write the mapping and the properties, which makes the image active.

        :raises ImageVerificationFailed: Glance does not hold what was written
        """
        written = {
            **properties,
            'disk_format': DISK_FORMAT,
            'container_format': 'bare',
            # Upstream writes strings for all values.
            'block_device_mapping': json.dumps(self.snapshots.mapping()),
            'bdm_v2': str(True),
        }
        image = retry.call(
            lambda: self._describe(written),
            f'describe the image {self.image}',
            exception.GlanceUnavailable,
            attempts=1 + self._settings.retries,
            longest_pause=5,
        )
        self._prove(image, written)
        return Proof(0, None, self._dropped)

    def _describe(self, written: dict[str, Any]) -> Image:
        glance = self.glance()
        if glance.get(self.image).status != 'active':
            self._dropped = self._write(written)
            glance.activate_empty(self.image)
        return glance.get(self.image)

    def _prove(self, image: Image, written: dict[str, Any]) -> None:
        found = {
            **image.properties,
            'status': image.status,
            'size': image.size,
        }
        for field, sent in {
            'status': 'active',
            'size': 0,
            'block_device_mapping': written['block_device_mapping'],
        }.items():
            if found.get(field) != sent:
                raise exception.ImageVerificationFailed(
                    image=self.image,
                    field=field,
                    stored=found.get(field),
                    sent=sent,
                )
