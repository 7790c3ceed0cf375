# SPDX-License-Identifier: Apache-2.0
"""The record of an image in Glance, whatever its data are to be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.snapshot.destination.base import Artefacts
from nova_snapshot_driver.snapshot.destination.base import Destination
from nova_snapshot_driver.snapshot.destination.settings import (
    DestinationSettings,
)
from nova_snapshot_driver.takings import glance_image

LOG = logging.getLogger(__name__)


class ImageRecord(Destination):
    """An image in Glance whose record exists.

    :param image: its id
    """

    def __init__(
        self, settings: DestinationSettings, context: Context, image: str
    ) -> None:
        self._settings = settings
        self._context = context
        self.image = image
        #: The fields and properties that the record had at first.
        self._found: dict[str, Any] = {}
        self._is_discarded = False

    @property
    def artefacts(self) -> Artefacts:
        return Artefacts(
            images=(self.image,), project=self._found.get('owner')
        )

    def check(self) -> None:
        self._found = self.glance().get(self.image).properties

    def glance(self) -> Glance:
        """The Glance of the image, with a token that is valid now."""
        return Glance(self._context.glance_access())

    @contextlib.contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as cause:
            if not self._leaves_other_ways(cause):
                self.discard(cause)
            raise

    def _leaves_other_ways(self, cause: BaseException) -> bool:
        """Whether whoever asked may have the image made in another way."""
        return isinstance(cause, exception.NotSupported)

    def discard(self, cause: BaseException) -> None:
        """Leave nothing of the image, because of an error."""
        if self._is_discarded:
            return
        self._is_discarded = True
        glance_image.discard(self.glance, self.image, cause)
        LOG.info('Image %s of the failed snapshot is gone', self.image)

    def _write(self, properties: dict[str, Any]) -> tuple[str, ...]:
        """
        :returns: the names of those that Glance has refused
        """
        return metadata.write(self.glance(), self.image, properties)
