# SPDX-License-Identifier: Apache-2.0
"""Where the image of a snapshot goes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import time
from collections.abc import Iterator
from typing import Any
from typing import Protocol

import tenacity
from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.context import Context
from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.glance import Glance
from nova_snapshot_driver.image import Image
from nova_snapshot_driver.progress import Progress
from nova_snapshot_driver.transfer import process
from nova_snapshot_driver.transfer.process import DataPlane
from nova_snapshot_driver.transfer.process import Limits
from nova_snapshot_driver.view import View
from nova_snapshot_driver.workspace import Workspace

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Proof:
    """What is known of an image that has arrived.

    :ivar sha512: of its bytes; None where nobody else has hashed them
    """

    size: int
    sha512: str | None


class Target(Protocol):
    """The destination of one image.

    :ivar image: its id in Glance; None where it goes elsewhere
    :ivar file: its path on this host; None where it goes elsewhere
    :ivar draft: the same, until it is complete
    :ivar context: in which Glance can be reached; None where there is none
    :ivar volumes: the ids of those in Cinder whose snapshots it is made of
    """

    @property
    def image(self) -> str | None: ...

    @property
    def file(self) -> str | None: ...

    @property
    def draft(self) -> str | None: ...

    @property
    def context(self) -> Context | None: ...

    @property
    def volumes(self) -> tuple[str, ...]: ...

    def check(self) -> None:
        """See that it can be sent there, before anything is touched."""

    def discarded_on_failure(self) -> contextlib.AbstractContextManager[None]:
        """Leave nothing of the image where the context ends in an error.

        The record of an image whose snapshot is not supported is left alone.
        """

    def destination(self, root: str, streamed: bool) -> str | None:
        """The directory in which the image takes space; None for none.

        :param root: ``[libvirt] snapshots_directory``
        """

    def staging(self, workspace: Workspace) -> str:
        """The path that the image is to be extracted to."""

    def receive(
        self,
        path: str,
        properties: dict[str, Any],
        limits: Limits,
        progress: Progress,
        cancellation: Cancellation,
    ) -> Proof:
        """Take the finished image from its staging path."""

    def data_plane(
        self, limits: Limits
    ) -> contextlib.AbstractContextManager[DataPlane]:
        """The process that is to stream to it, and waits for the view."""

    def stream(
        self,
        data_plane: DataPlane,
        view: View,
        encoding: Encoding,
        properties: dict[str, Any],
        progress: Progress,
        cancellation: Cancellation,
    ) -> Proof:
        """Take the content of a view, as it is read and encoded.

        :param data_plane: from ``data_plane()``
        """

    def publish(self) -> None:
        """Show an image that was streamed, where it is not shown yet."""

    def adopt(
        self,
        url: str,
        size: int,
        properties: dict[str, Any],
        cancellation: Cancellation,
    ) -> Proof:
        """Take an image that lies where its target keeps images.

        :param size: of it, in bytes
        :raises LocationRefused: it is not taken, and is as it was
        """

    def discard(self, cause: BaseException) -> None:
        """Leave nothing of the image, because of an error."""


#: The longest pause between two attempts to tell a location, in seconds.
LONGEST_PAUSE = 30

#: How long Glance may look at a location, in seconds.
LOCATION_TIMEOUT = 120

#: How often it is looked whether an image is active, in seconds.
POLL_INTERVAL = 0.5

#: The states of an image whose location Glance has, or is looking at.
_BEFORE_ACTIVE = ('queued', 'importing')


class GlanceImage:
    """An image in Glance, whose record exists."""

    file: str | None = None
    draft: str | None = None

    @property
    def volumes(self) -> tuple[str, ...]:
        return ()

    def __init__(
        self, conf: cfg.ConfigOpts, context: Context, image: str
    ) -> None:
        self._conf = conf
        self.context = context
        self.image = image
        self._is_discarded = False

    def check(self) -> None:
        self._glance().get(self.image)

    @contextlib.contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        try:
            yield
        except exception.NotSupported:
            # Nothing was begun, and whoever asked may know another way.
            raise
        except BaseException as cause:
            self.discard(cause)
            raise

    def discard(self, cause: BaseException) -> None:
        if self._is_discarded:
            return
        self._is_discarded = True
        try:
            self._glance().delete(self.image)
        except exception.SnapshotError as error:
            raise exception.ImageLeftBehind(
                image=self.image, cause=str(cause), reason=str(error)
            ) from cause
        LOG.info('Image %s of the failed snapshot is gone', self.image)

    def destination(self, root: str, streamed: bool) -> str | None:
        return None if streamed else root

    def staging(self, workspace: Workspace) -> str:
        return workspace.file('image')

    def receive(
        self,
        path: str,
        properties: dict[str, Any],
        limits: Limits,
        progress: Progress,
        cancellation: Cancellation,
    ) -> Proof:
        self._glance().update(self.image, **properties)
        digest = process.upload(
            path,
            self.image,
            self.context.glance_access,
            self._conf.glance.num_retries,
            self._conf.snapshot.upload_timeout,
            limits,
            progress,
            cancellation,
        )
        return Proof(os.path.getsize(path), digest)

    def data_plane(
        self, limits: Limits
    ) -> contextlib.AbstractContextManager[DataPlane]:
        return process.started('stream', limits)

    def stream(
        self,
        data_plane: DataPlane,
        view: View,
        encoding: Encoding,
        properties: dict[str, Any],
        progress: Progress,
        cancellation: Cancellation,
    ) -> Proof:
        self._glance().update(self.image, **properties)
        sent = process.stream(
            data_plane,
            view,
            encoding,
            self.image,
            self.context.glance_access,
            self._conf.glance.num_retries,
            self._conf.snapshot.upload_timeout,
            progress,
            cancellation,
        )
        return Proof(sent.size, sent.sha512)

    def publish(self) -> None:
        """Glance shows what is complete."""

    def adopt(
        self,
        url: str,
        size: int,
        properties: dict[str, Any],
        cancellation: Cancellation,
    ) -> Proof:
        """
        :raises ImageUnproven: Glance has not made it active, or does not find
            what is there
        """
        self._glance().update(self.image, **properties)
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(
                exception.GlanceUnavailable
            ),
            stop=tenacity.stop_after_attempt(
                self._conf.glance.num_retries + 1
            ),
            wait=tenacity.wait_exponential(max=LONGEST_PAUSE),
            sleep=cancellation.sleep,
            reraise=True,
        )
        attempts(self._add_location, url)
        found = self._active(cancellation)
        for field, expected in {'status': 'active', 'size': size}.items():
            if getattr(found, field) != expected:
                raise exception.ImageUnproven(
                    image=self.image,
                    field=field,
                    stored=getattr(found, field),
                    sent=expected,
                )
        return Proof(size, None)

    def _add_location(self, url: str) -> None:
        glance = self._glance()
        # It may be the last answer alone that was lost.
        if glance.get(self.image).status == 'queued':
            glance.add_location(self.image, url)

    def _active(self, cancellation: Cancellation) -> Image:
        """The image, once Glance has looked at its location, or for long."""
        deadline = time.monotonic() + LOCATION_TIMEOUT
        while True:
            is_late = time.monotonic() > deadline
            try:
                found = self._glance().get(self.image)
            except exception.GlanceUnavailable:
                if is_late:
                    raise
            else:
                if is_late or found.status not in _BEFORE_ACTIVE:
                    return found
            cancellation.sleep(POLL_INTERVAL)

    def _glance(self) -> Glance:
        return Glance(self.context.glance_access())


class OutputFile:
    """A file on this host, that appears when it is complete."""

    image: str | None = None
    context: Context | None = None
    volumes: tuple[str, ...] = ()

    def __init__(self, conf: cfg.ConfigOpts, path: str) -> None:
        self._conf = conf
        self.file = os.path.abspath(path)
        self.draft = f'{self.file}.{secrets.token_hex(4)}.part'

    def check(self) -> None:
        if os.path.lexists(self.file):
            raise exception.OutputExists(path=self.file)
        directory = os.path.dirname(self.file)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise exception.DirectoryUnusable(
                directory=directory,
                reason='it is missing or cannot be written',
                option='--output',
            )

    @contextlib.contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.draft)

    def destination(self, root: str, streamed: bool) -> str | None:
        return os.path.dirname(self.file)

    def staging(self, workspace: Workspace) -> str:
        return self.draft

    def receive(
        self,
        path: str,
        properties: dict[str, Any],
        limits: Limits,
        progress: Progress,
        cancellation: Cancellation,
    ) -> Proof:
        self.publish()
        return Proof(os.path.getsize(self.file), None)

    def data_plane(
        self, limits: Limits
    ) -> contextlib.AbstractContextManager[DataPlane]:
        return process.started('save', limits)

    def stream(
        self,
        data_plane: DataPlane,
        view: View,
        encoding: Encoding,
        properties: dict[str, Any],
        progress: Progress,
        cancellation: Cancellation,
    ) -> Proof:
        size = process.save(
            data_plane,
            view,
            encoding,
            self.draft,
            self._conf.snapshot.extract_timeout,
            progress,
            cancellation,
        )
        return Proof(size, None)

    def adopt(
        self,
        url: str,
        size: int,
        properties: dict[str, Any],
        cancellation: Cancellation,
    ) -> Proof:
        raise NotImplementedError('no image in Ceph is planned for a file')

    def discard(self, cause: BaseException) -> None:
        """The draft goes with the context."""

    def publish(self) -> None:
        try:
            # Whoever creates the name owns it: no file is ever replaced.
            with open(self.file, 'x'):
                os.replace(self.draft, self.file)
        except FileExistsError:
            raise exception.OutputExists(path=self.file) from None
