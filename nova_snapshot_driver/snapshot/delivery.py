# SPDX-License-Identifier: Apache-2.0
"""How the content of captured disks reaches the destination as images."""

from __future__ import annotations

import abc
import contextlib
import errno
from types import TracebackType
from typing import Any
from typing import ClassVar
from typing import Generic
from typing import Self
from typing import TypeVar

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import rbd
from nova_snapshot_driver.clients.rbd import Ceph
from nova_snapshot_driver.clients.rbd import Clone
from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.common.view import Views
from nova_snapshot_driver.snapshot.capture.base import CaptureTools
from nova_snapshot_driver.snapshot.capture.quiesce import Quiesce
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.snapshot.destination.base import Adopting
from nova_snapshot_driver.snapshot.destination.base import Incremental
from nova_snapshot_driver.snapshot.destination.base import Proof
from nova_snapshot_driver.snapshot.destination.base import Staged
from nova_snapshot_driver.snapshot.destination.base import Streaming
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
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
from nova_snapshot_driver.transfer.jobs.job import Verdict
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.jobs.job import Written

#: The captured disks: their views, or the clone that Ceph is to make.
Captured = TypeVar('Captured')


class Delivery(abc.ABC, Generic[Captured]):
    """A way to bring images to their destination.

    The end of the context removes all that is not to become an image.

    :cvar reading: a word for what is done while the disks are captured
    :cvar completing: a word for what is done afterwards; None where that takes
        no time
    """

    reading: ClassVar[str]
    completing: ClassVar[str | None] = None

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
    def read(self, captured: Captured) -> None:
        """Read all of the disks, which need not be captured any more then."""

    @abc.abstractmethod
    def complete(self) -> tuple[Proof, ...]:
        """Have the whole images at the destination.

        :returns: those of the disks of the plan, in their order
        """

    def _properties(self, planned: PlannedDisk) -> dict[str, Any]:
        """The properties of the image of a disk."""
        return metadata.of_snapshot(
            self._request.instance, self._plan, planned, self._quiesce
        )

    def _start(self, kind: type[Job[Any]]) -> list[DataPlane]:
        """Start a process for the job of each disk, before its view is there.

        A guest that writes pays for every second of the views.
        """
        return [self._start_one(kind) for _ in self._plan.disks]

    def _start_one(self, kind: type[Job[Any]]) -> DataPlane:
        return self._held.enter_context(
            data_plane.started(
                kind,
                Limits.of(self._settings.transfer, kind),
                self._request.progress,
                self._request.cancellation,
            )
        )


class StreamDelivery(Delivery[Views]):
    """The bytes go once: from a view to the destination, as they are read.

    :param destination: that of the request
    """

    reading = 'stream'

    _processes: list[DataPlane]
    _proofs: tuple[Proof, ...]

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
        self._processes = self._start(Stream)
        return self

    def read(self, captured: Views) -> None:
        self._request.states.uploading()
        self._proofs = tuple(
            self._destination.stream(
                process,
                captured[planned.target],
                planned,
                self._workspace.path,
                self._properties(planned),
            )
            for process, planned in zip(
                self._processes, self._plan.disks, strict=True
            )
        )

    def complete(self) -> tuple[Proof, ...]:
        # A cancellation counts until the images are published.
        self._request.cancellation.check()
        return self._proofs


class StagedDelivery(Delivery[Views]):
    """A file of this host gets each image, and the destination the file.

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

    def _path(self, planned: PlannedDisk) -> str:
        return self._destination.staging(self._workspace, planned)

    def complete(self) -> tuple[Proof, ...]:
        # Heed a cancellation for as long as the images are not shown.
        self._request.cancellation.check()
        self._request.states.uploading()
        return tuple(
            self._destination.receive(
                self._path(planned),
                self._properties(planned),
                self._request.progress,
                self._request.cancellation,
            )
            for planned in self._plan.disks
        )


class SaveDelivery(StagedDelivery):
    """The files are written in one pass."""

    reading = 'stream'

    _processes: list[DataPlane]

    def __enter__(self) -> Self:
        self._processes = self._start(Save)
        return self

    def read(self, captured: Views) -> None:
        for process, planned in zip(
            self._processes, self._plan.disks, strict=True
        ):
            process.run(
                Save(
                    captured[planned.target],
                    planned.encoding,
                    self._path(planned),
                    self._workspace.path,
                )
            )


class ExtractDelivery(StagedDelivery):
    """The files are written by ``qemu-img``."""

    reading = 'extract'
    completing = 'upload'

    def read(self, captured: Views) -> None:
        for planned in self._plan.disks:
            data_plane.run(
                Extract(
                    captured[planned.target],
                    planned.encoding,
                    self._path(planned),
                ),
                self._limits(),
                self._request.progress,
                self._request.cancellation,
            )

    def _limits(self) -> Limits:
        limits = Limits.of(self._settings.transfer, Extract)
        return limits.without_yielding() if self._plan.suspends else limits


class IncrementDelivery(Delivery[Views]):
    """The destination gets what has changed, and is proven to have it.

    :param destination: that of the request
    """

    reading = 'increment'
    completing = 'prove'

    _process: DataPlane
    _written: Written

    def __init__(
        self,
        session: Session,
        plan: Plan,
        quiesce: Quiesce,
        destination: Incremental,
        tools: CaptureTools,
    ) -> None:
        super().__init__(session, plan, quiesce)
        self._guest = session.guest
        self._destination = destination
        self._tools = tools

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as on_failure:
            on_failure.push(self._held)
            self._held.enter_context(
                self._destination.opened(self._guest, self._plan, self._tools)
            )
            self._process = self._start_one(self._destination.JOB)
            on_failure.pop_all()
        return self

    def read(self, captured: Views) -> None:
        self._request.states.uploading()
        [planned] = self._plan.disks
        self._written = self._process.run(
            self._destination.job(
                captured[planned.target],
                self._plan,
                self._tools.workspace.path,
            )
        )

    def complete(self) -> tuple[Proof, ...]:
        [planned] = self._plan.disks
        proof = self._destination.complete(
            self._guest,
            self._plan,
            self._written,
            self._properties(planned),
            self._prove,
            self._tools.workspace.path,
        )
        return (proof,)

    def _prove(self, job: Verify) -> Verdict:
        verdict = data_plane.run(
            job,
            Limits.of(self._settings.transfer, Verify),
            self._request.progress,
            self._request.cancellation,
        )
        # A cancellation counts until the snapshot is shown.
        self._request.cancellation.check()
        return verdict


class CloneDelivery(Delivery[Clone]):
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

    def read(self, captured: Clone) -> None:
        with rbd.refusals(self._domain):
            try:
                self._copy(captured.image)
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

    def complete(self) -> tuple[Proof, ...]:
        cancellation = self._request.cancellation
        cancellation.check()
        [planned] = self._plan.disks
        self._is_offered = True
        try:
            proof = self._destination.adopt(
                self._clone.url,
                self._size,
                self._properties(planned),
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
        return (proof,)
