# SPDX-License-Identifier: Apache-2.0
"""How the content of a view reaches the target as an image."""

from __future__ import annotations

from typing import Protocol

from oslo_config import cfg

from nova_snapshot_driver import metadata
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.quiesce import Quiesce
from nova_snapshot_driver.request import Request
from nova_snapshot_driver.target import Proof
from nova_snapshot_driver.transfer import process
from nova_snapshot_driver.transfer.process import Limits
from nova_snapshot_driver.view import View
from nova_snapshot_driver.workspace import Workspace


class Delivery(Protocol):
    """One way of it.

    :ivar reading: what it does while the view is there, in a word
    """

    reading: str

    def read(self, view: View) -> None:
        """Read all of a view, which is not needed any more then."""

    def complete(self) -> Proof:
        """Have the whole image at the target."""


class Stream:
    """The bytes go once: from the view to the target as they are read."""

    reading = 'stream'

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        request: Request,
        plan: Plan,
        quiesce: Quiesce,
    ) -> None:
        self._conf = conf
        self._request = request
        self._plan = plan
        self._quiesce = quiesce
        self._proof: Proof | None = None

    def read(self, view: View) -> None:
        self._request.states.uploading()
        self._proof = self._request.target.stream(
            view,
            self._plan.encoding,
            metadata.of_snapshot(
                self._request.instance, self._plan, self._quiesce
            ),
            Limits.of(self._conf),
            self._request.progress,
            self._request.cancellation,
        )

    def complete(self) -> Proof:
        # Whoever cancels it before the guest is given back is heard.
        self._request.cancellation.check()
        assert self._proof is not None  # noqa: S101 (for mypy)
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

    def read(self, view: View) -> None:
        process.extract(
            view,
            self._image,
            self._plan.encoding,
            self._conf.snapshot.extract_timeout,
            Limits.of(self._conf),
            self._request.progress,
            self._request.cancellation,
        )

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
