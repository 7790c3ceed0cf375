# SPDX-License-Identifier: Apache-2.0
"""How the content of a view reaches the target as an image."""

from __future__ import annotations

import contextlib
import errno
from types import TracebackType
from typing import Protocol
from typing import Self

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver import metadata
from nova_snapshot_driver import rbd
from nova_snapshot_driver.capture import direct
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.domain import RbdImage
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.quiesce import Quiesce
from nova_snapshot_driver.rbd import Ceph
from nova_snapshot_driver.rbd import Clone
from nova_snapshot_driver.request import Request
from nova_snapshot_driver.target import Proof
from nova_snapshot_driver.transfer import process
from nova_snapshot_driver.transfer.process import DataPlane
from nova_snapshot_driver.transfer.process import Limits
from nova_snapshot_driver.view import View
from nova_snapshot_driver.workspace import Workspace


class Delivery(Protocol):
    """One way of it.

    As a context it leaves nothing behind that is to be no image.

    :ivar reading: what it does while the view is there, in a word
    """

    reading: str

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def read(self, view: View | Clone) -> None:
        """Read all of a view, which is not needed any more then."""

    def complete(self) -> Proof:
        """Have the whole image at the target."""


class Stream:
    """The bytes go once: from the view to the target as they are read.

    The process that moves them is started with the context, and so before the
    view is there: a guest that writes pays for every second of that.
    """

    reading = 'stream'

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        request: Request,
        plan: Plan,
        quiesce: Quiesce,
    ) -> None:
        self._request = request
        self._plan = plan
        self._quiesce = quiesce
        self._limits = Limits.of(conf)
        self._started = contextlib.ExitStack()
        self._data_plane: DataPlane | None = None
        self._proof: Proof | None = None

    def __enter__(self) -> Self:
        self._data_plane = self._started.enter_context(
            self._request.target.data_plane(self._limits)
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._started.close()

    def read(self, view: View | Clone) -> None:
        assert self._data_plane is not None  # noqa: S101 (for mypy)
        assert not isinstance(view, Clone)  # noqa: S101 (for mypy)
        self._request.states.uploading()
        self._proof = self._request.target.stream(
            self._data_plane,
            view,
            self._plan.encoding,
            metadata.of_snapshot(
                self._request.instance, self._plan, self._quiesce
            ),
            self._request.progress,
            self._request.cancellation,
        )

    def complete(self) -> Proof:
        # Whoever cancels it before the guest is given back is heard.
        self._request.cancellation.check()
        assert self._proof is not None  # noqa: S101 (for mypy)
        self._request.target.publish()
        return self._proof


class Conversion:
    """``qemu-img`` writes a file on this host, which is sent afterwards."""

    reading = 'extract'

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        request: Request,
        plan: Plan,
        quiesce: Quiesce,
        workspace: Workspace,
    ) -> None:
        self._conf = conf
        self._request = request
        self._plan = plan
        self._quiesce = quiesce
        self._image = Layer(
            request.target.staging(workspace), plan.encoding.format
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """What is left behind, others remove."""

    def read(self, view: View | Clone) -> None:
        assert not isinstance(view, Clone)  # noqa: S101 (for mypy)
        process.extract(
            view,
            self._image,
            self._plan.encoding,
            self._conf.snapshot.extract_timeout,
            self._limits_of_reading(),
            self._request.progress,
            self._request.cancellation,
        )

    def _limits_of_reading(self) -> Limits:
        limits = Limits.of(self._conf)
        return limits.without_yielding() if self._plan.suspends else limits

    def complete(self) -> Proof:
        self._request.states.uploading()
        return self._request.target.receive(
            self._image.path,
            metadata.of_snapshot(
                self._request.instance, self._plan, self._quiesce
            ),
            Limits.of(self._conf),
            self._request.progress,
            self._request.cancellation,
        )


class Adoption:
    """Ceph copies the data, and Glance is told where the copy is.

    Glance finds its image where it would have put it itself, under the name
    that it would have given it, and with the snapshot that its images have.

    :param domain: the name of the domain
    """

    reading = 'clone'

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        domain: str,
        request: Request,
        plan: Plan,
        quiesce: Quiesce,
        clone: Clone,
    ) -> None:
        self._conf = conf
        self._domain = domain
        self._request = request
        self._plan = plan
        self._quiesce = quiesce
        self._clone = clone
        self._ceph = Ceph(conf, clone.disk.user)
        self._size = 0
        self._is_begun = False
        self._is_offered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
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
            self._request.target.discard(error)
        self._remove()

    def read(self, view: View | Clone) -> None:
        with rbd.refusals(self._domain):
            try:
                self._copy(self._clone.image)
            except BaseException:
                # While it is a clone its snapshot can't be removed.
                self._remove()
                raise

    def _copy(self, image: RbdImage) -> None:
        self._request.cancellation.check()
        self._is_begun = True
        try:
            self._ceph.clone(self._clone)
        except exception.CephDenied:
            # There is none.
            self._is_begun = False
            raise
        except exception.CephError as error:
            # That one is not ours.
            self._is_begun = error.fields['status'] != errno.EEXIST
            raise
        process.flatten(
            self._ceph.to_flatten(image),
            str(image),
            self._conf.snapshot.mirror_timeout,
            Limits.of(self._conf),
            self._request.progress,
            self._request.cancellation,
        )
        self._ceph.create_snapshot(image, rbd.GLANCE_SNAPSHOT, rbd.TIMEOUT)
        self._ceph.protect(image, rbd.GLANCE_SNAPSHOT)
        self._size = self._ceph.size(image)

    def _remove(self) -> None:
        if self._is_begun:
            direct.remove_clone(self._domain, self._ceph, self._clone)
            self._is_begun = False

    def complete(self) -> Proof:
        cancellation = self._request.cancellation
        cancellation.check()
        self._is_offered = True
        try:
            proof = self._request.target.adopt(
                self._clone.url,
                self._size,
                metadata.of_snapshot(
                    self._request.instance, self._plan, self._quiesce
                ),
                cancellation,
            )
        except exception.LocationRefused as refusal:
            self._is_offered = False
            raise exception.DirectRefused(
                domain=self._domain, reason=str(refusal)
            ) from refusal
        # Before that there may be another way, which comes to it itself.
        self._request.states.uploading()
        cancellation.check()
        return proof
