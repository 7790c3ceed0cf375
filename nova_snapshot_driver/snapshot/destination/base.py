# SPDX-License-Identifier: Apache-2.0
"""Where a snapshot goes, and by which ways an image gets there."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from typing import Any

from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.transfer.data_plane import DataPlane
from nova_snapshot_driver.transfer.formats.encoding import Encoding


@dataclasses.dataclass(frozen=True)
class Proof:
    """The facts that are proven of an image that has arrived.

    :ivar sha512: of its bytes; None where nobody else has hashed them
    :ivar dropped: the properties that Glance has refused, and it lacks
    """

    size: int
    sha512: str | None
    dropped: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Artefacts:
    """The things that a snapshot makes, and leaves if its process dies.

    :ivar image: its id in Glance
    :ivar file: its path on this host
    :ivar draft: the path of the file, until it is complete
    :ivar volumes: the ids of the volumes whose snapshots the image maps
    """

    image: str | None = None
    file: str | None = None
    draft: str | None = None
    volumes: tuple[str, ...] = ()


class Destination(abc.ABC):
    """Where a snapshot goes.

    How an image gets there is for the classes below: a destination is of each
    one whose way it offers.
    """

    @property
    @abc.abstractmethod
    def artefacts(self) -> Artefacts: ...

    @abc.abstractmethod
    def check(self) -> None:
        """See that the snapshot can go there, before anything is touched."""

    @abc.abstractmethod
    def discarded_on_failure(self) -> contextlib.AbstractContextManager[None]:
        """Leave no artefact where the context ends in an error.

        The record of an image whose snapshot is not supported is left alone.
        """


class Streaming(Destination):
    """A destination that takes the content of a view as it is read."""

    @abc.abstractmethod
    def stream(
        self,
        process: DataPlane,
        view: View,
        encoding: Encoding,
        directory: str,
        properties: dict[str, Any],
    ) -> Proof:
        """
        :param process: started for a ``Stream``
        :param directory: of the snapshot's own, where sockets may lie
        """


class Staged(Destination):
    """A destination that takes a file of this host with the whole image."""

    @abc.abstractmethod
    def place(self, root: str) -> Place:
        """Where the file takes room.

        :param root: ``[libvirt] snapshots_directory``
        """

    @abc.abstractmethod
    def staging(self, workspace: Workspace) -> str:
        """The path of the file."""

    @abc.abstractmethod
    def receive(
        self,
        path: str,
        properties: dict[str, Any],
        progress: Progress,
        cancellation: Cancellation,
    ) -> Proof:
        """Take the finished image from its staging path."""


class Adopting(Destination):
    """A destination that keeps images in Ceph, and takes one made there.

    :ivar image: the id of the image in Glance
    """

    image: str

    @abc.abstractmethod
    def glance(self) -> Glance:
        """The Glance of the image, with a token that is valid now."""

    @abc.abstractmethod
    def adopt(
        self,
        url: str,
        size: int,
        properties: dict[str, Any],
        cancellation: Cancellation,
    ) -> Proof:
        """Take an image that lies where the destination keeps images.

        :param size: of it, in bytes
        :raises LocationRefused: it is not taken, and is as it was
        :raises ImageVerificationFailed: Glance has not made it active, or does
            not find what is there
        """

    @abc.abstractmethod
    def discard(self, cause: BaseException) -> None:
        """Leave nothing of the image, because of an error."""
