# SPDX-License-Identifier: Apache-2.0
"""How the content of a view reaches the destination as an image."""

from __future__ import annotations

import abc
import contextlib
import errno
from types import TracebackType
from typing import Any
from typing import ClassVar
from typing import Self

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import rbd
from nova_snapshot_driver.clients.rbd import Ceph
from nova_snapshot_driver.clients.rbd import Clone
from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.snapshot.capture.quiesce import Quiesce
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.snapshot.destination.base import Adopting
from nova_snapshot_driver.snapshot.destination.base import Proof
from nova_snapshot_driver.snapshot.destination.base import Staged
from nova_snapshot_driver.snapshot.destination.base import Streaming
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.session import Session
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.takings import ceph_clone
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.data_plane import DataPlane
from nova_snapshot_driver.transfer.data_plane import Limits
from nova_snapshot_driver.transfer.jobs.job import Extract
from nova_snapshot_driver.transfer.jobs.job import Flatten
from nova_snapshot_driver.transfer.jobs.job import Job
from nova_snapshot_driver.transfer.jobs.job import Save
from nova_snapshot_driver.transfer.jobs.job import Stream


class Delivery(abc.ABC):
    """A way to bring an image to its destination.

    The end of the context removes all that is not to become an image.

    :cvar reading: a word for what is done while the view is there
    """

    reading: ClassVar[str]

    def __init__(self, session: Session, plan: Plan, quiesce: Quiesce) -> None:
        self._settings = session.settings
        self._domain = session.guest.name
        self._request = session.request
        self._plan = plan
        self._quiesce = quiesce
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.__exit__(kind, error, traceback)

    @abc.abstractmethod
    def read(self, view: View | Clone) -> None:
        """Read all of a view, which is not needed any more then."""

    @abc.abstractmethod
    def complete(self) -> Proof:
        """Have the whole image at the destination."""

    def _properties(self) -> dict[str, Any]:
        """The properties of the image."""
        return metadata.of_snapshot(
            self._request.instance, self._plan, self._quiesce
        )

    def _start(self, kind: type[Job[Any]]) -> DataPlane:
        """Start the process that is to do a job, before the view is there.

        A guest that writes pays for every second of the view.
        """
        return self._held.enter_context(
            data_plane.started(
                kind,
                Limits.of(self._settings.transfer, kind),
                self._request.progress,
                self._request.cancellation,
            )
        )


class StreamDelivery(Delivery):
    """The bytes go once: from the view to the destination, as they are read.

    :param destination: that of the request
    """

    reading = 'stream'

    _process: DataPlane
    _proof: Proof

    def __init__(
        self,
        session: Session,
        plan: Plan,
        quiesce: Quiesce,
        workspace: Workspace,
        destination: Streaming,
    ) -> None:
        super().__init__(session, plan, quiesce)
        self._workspace = workspace
        self._destination = destination

    def __enter__(self) -> Self:
        self._process = self._start(Stream)
        return self

    def read(self, view: View | Clone) -> None:
        assert not isinstance(view, Clone)  # noqa: S101 (for mypy)
        self._request.states.uploading()
        self._proof = self._destination.stream(
            self._process,
            view,
            self._plan.encoding,
            self._workspace.path,
            self._properties(),
        )

    def complete(self) -> Proof:
        # A cancellation counts until the image is published.
        self._request.cancellation.check()
        return self._proof


class StagedDelivery(Delivery):
    """A file of this host gets the image, and the destination the file.

    :param destination: that of the request
    """

    def __init__(
        self,
        session: Session,
        plan: Plan,
        quiesce: Quiesce,
        workspace: Workspace,
        destination: Staged,
    ) -> None:
        super().__init__(session, plan, quiesce)
        self._workspace = workspace
        self._destination = destination
        self._path = destination.staging(workspace)

    def complete(self) -> Proof:
        # Heed a cancellation for as long as the image is not shown.
        self._request.cancellation.check()
        self._request.states.uploading()
        return self._destination.receive(
            self._path,
            self._properties(),
            self._request.progress,
            self._request.cancellation,
        )


class SaveDelivery(StagedDelivery):
    """The file is written in one pass."""

    reading = 'stream'

    _process: DataPlane

    def __enter__(self) -> Self:
        self._process = self._start(Save)
        return self

    def read(self, view: View | Clone) -> None:
        assert not isinstance(view, Clone)  # noqa: S101 (for mypy)
        self._process.run(
            Save(view, self._plan.encoding, self._path, self._workspace.path)
        )


class ExtractDelivery(StagedDelivery):
    """The file is written by ``qemu-img``."""

    reading = 'extract'

    def read(self, view: View | Clone) -> None:
        assert not isinstance(view, Clone)  # noqa: S101 (for mypy)
        data_plane.run(
            Extract(view, self._plan.encoding, self._path),
            self._limits(),
            self._request.progress,
            self._request.cancellation,
        )

    def _limits(self) -> Limits:
        limits = Limits.of(self._settings.transfer, Extract)
        return limits.without_yielding() if self._plan.suspends else limits


class CloneDelivery(Delivery):
    """Ceph copies the data, and Glance is told where the copy is.

    Glance finds the image where it would have put it itself, under the same
    name, and with the snapshot that its images have.

    :param destination: that of the request
    """

    reading = 'clone'

    def __init__(
        self,
        session: Session,
        plan: Plan,
        quiesce: Quiesce,
        clone: Clone,
        destination: Adopting,
    ) -> None:
        super().__init__(session, plan, quiesce)
        self._clone = clone
        self._destination = destination
        self._ceph = Ceph(self._settings.undo.ceph, clone.disk.user)
        self._size = 0
        self._is_begun = False
        self._is_offered = False

    def __enter__(self) -> Self:
        self._held.push(self._leave_no_half)
        return self

    def _leave_no_half(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            return
        if self._is_offered:
            # No image is to be active whose data is gone. If it can't be
            # deleted the data stays too, and the journal knows of both.
            self._destination.discard(error)
        self._remove()

    def read(self, view: View | Clone) -> None:
        with rbd.refusals(self._domain):
            try:
                self._copy(self._clone.image)
            except BaseException:
                # Remove the clone at once: the disk's snapshot can't go before
                # it.
                self._remove()
                raise

    def _copy(self, image: RbdImage) -> None:
        self._request.cancellation.check()
        self._is_begun = True
        try:
            self._ceph.clone(self._clone)
        except exception.CephDenied:
            # EPERM: no clone was created.
            self._is_begun = False
            raise
        except exception.CephError as error:
            # EEXIST: the clone belongs to someone else.
            self._is_begun = error.fields['status'] != errno.EEXIST
            raise
        data_plane.run(
            Flatten(tuple(self._ceph.to_flatten(image)), str(image)),
            Limits.of(self._settings.transfer, Flatten),
            self._request.progress,
            self._request.cancellation,
        )
        self._ceph.create_snapshot(image, rbd.GLANCE_SNAPSHOT, rbd.TIMEOUT)
        self._ceph.protect(image, rbd.GLANCE_SNAPSHOT)
        self._size = self._ceph.size(image)

    def _remove(self) -> None:
        if self._is_begun:
            ceph_clone.remove_clone(self._domain, self._ceph, self._clone)
            self._is_begun = False

    def complete(self) -> Proof:
        cancellation = self._request.cancellation
        cancellation.check()
        self._is_offered = True
        try:
            proof = self._destination.adopt(
                self._clone.url,
                self._size,
                self._properties(),
                cancellation,
            )
        except exception.LocationRefused as refusal:
            self._is_offered = False
            raise exception.CloneRefused(
                domain=self._domain, reason=str(refusal)
            ) from refusal
        # Report the upload only now: after a refusal another method reports
        # it.
        self._request.states.uploading()
        cancellation.check()
        return proof
