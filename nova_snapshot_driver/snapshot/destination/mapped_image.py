# SPDX-License-Identifier: Apache-2.0
"""An image in Glance without data, which maps snapshots in Cinder."""

from __future__ import annotations

import json
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.image import Image
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.snapshot.destination.image_record import ImageRecord

#: The disk format of an image without data: Glance demands one.
DISK_FORMAT = 'raw'


class MappedImage(ImageRecord):
    """An image that is nothing but a mapping of snapshots.

    Source: ``nova.compute.api.API.snapshot_volume_backed``
    """

    _dropped: tuple[str, ...] = ()

    def name(self) -> str:
        """The name of the image in Glance."""
        return self.glance().get(self.image).name or ''

    def _show(
        self, mapping: list[dict[str, Any]], properties: dict[str, Any]
    ) -> tuple[str, ...]:
        """Write the mapping and the properties, which makes the image active.

        :param mapping: the block devices of a server that is made from it
        :returns: the names of properties that Glance has refused
        :raises ImageVerificationFailed: Glance does not hold what was written
        """
        written = {
            **properties,
            'disk_format': DISK_FORMAT,
            'container_format': 'bare',
            # Upstream writes strings for all values.
            'block_device_mapping': json.dumps(mapping),
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
        return self._dropped

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
