# SPDX-License-Identifier: Apache-2.0
"""An image in Glance, with the data of a disk."""

from __future__ import annotations

import contextlib
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.clients.image import Image
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.snapshot.destination.base import Adopting
from nova_snapshot_driver.snapshot.destination.base import Proof
from nova_snapshot_driver.snapshot.destination.base import Staged
from nova_snapshot_driver.snapshot.destination.base import Streaming
from nova_snapshot_driver.snapshot.destination.image_record import ImageRecord
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.data_plane import DataPlane
from nova_snapshot_driver.transfer.data_plane import Limits
from nova_snapshot_driver.transfer.jobs.job import Stream
from nova_snapshot_driver.transfer.jobs.job import Upload

#: The longest pause between two attempts to tell a location, in seconds.
LONGEST_PAUSE = 30

#: How long Glance may look at a location, in seconds.
LOCATION_TIMEOUT = 120

#: The states of an image whose location Glance has, or is looking at.
_BEFORE_ACTIVE = ('queued', 'importing')


class GlanceImage(ImageRecord, Streaming, Staged, Adopting):
    """An image of one disk in Glance, by any way."""

    def stream(
        self,
        process: DataPlane,
        view: View,
        planned: PlannedDisk,
        directory: str,
        properties: dict[str, Any],
    ) -> Proof:
        access = self._context.glance_access()
        dropped = metadata.write(Glance(access), self.image, properties)
        sent = process.run(
            Stream(
                view,
                planned.encoding,
                self.image,
                access.files,
                self._settings.retries,
                directory,
            ),
            self._context.glance_access,
        )
        return Proof(sent.size, sent.sha512, dropped)

    def place(self, root: str) -> Place:
        return Place(root)

    def staging(self, workspace: Workspace, planned: PlannedDisk) -> str:
        return workspace.file('image')

    def receive(
        self,
        path: str,
        properties: dict[str, Any],
        progress: Progress,
        cancellation: Cancellation,
    ) -> Proof:
        access = self._context.glance_access()
        dropped = metadata.write(Glance(access), self.image, properties)
        sent = data_plane.run(
            Upload(path, self.image, access.files, self._settings.retries),
            Limits.of(self._settings.transfer, Upload),
            progress,
            cancellation,
            self._context.glance_access,
        )
        return Proof(sent.size, sent.sha512, dropped)

    def adopt(
        self,
        url: str,
        size: int,
        properties: dict[str, Any],
        cancellation: Cancellation,
    ) -> Proof:
        dropped = self._write(properties)
        retry.call(
            lambda: self._add_location(url),
            f'add a location to the image {self.image}',
            exception.GlanceUnavailable,
            attempts=self._settings.retries + 1,
            longest_pause=LONGEST_PAUSE,
            cancellation=cancellation,
        )
        found = self._active(cancellation)
        for field, expected in {'status': 'active', 'size': size}.items():
            if getattr(found, field) != expected:
                raise exception.ImageVerificationFailed(
                    image=self.image,
                    field=field,
                    stored=getattr(found, field),
                    sent=expected,
                )
        return Proof(size, None, dropped)

    def _add_location(self, url: str) -> None:
        glance = self.glance()
        # An earlier call may have succeeded, with its answer lost.
        if glance.get(self.image).status == 'queued':
            glance.add_location(self.image, url)

    def _active(self, cancellation: Cancellation) -> Image:
        """The image, once Glance has looked at its location, or for long."""
        found = None

        def has_settled() -> bool:
            nonlocal found
            found = None
            with contextlib.suppress(exception.GlanceUnavailable):
                found = self.glance().get(self.image)
            return found is not None and found.status not in _BEFORE_ACTIVE

        wait.holds_within(
            has_settled, LOCATION_TIMEOUT, cancellation=cancellation
        )
        # A Glance that was out of reach to the end says so once more.
        return found or self.glance().get(self.image)
