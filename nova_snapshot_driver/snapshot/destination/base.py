# SPDX-License-Identifier: Apache-2.0
"""Where a snapshot goes, and by which ways its images get there."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any
from typing import ClassVar

from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.common.way import Way
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot.capture.base import CaptureTools
from nova_snapshot_driver.snapshot.plan.increment import WORDS
from nova_snapshot_driver.snapshot.plan.increment import Base
from nova_snapshot_driver.snapshot.plan.increment import Keeping
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.state.workspace import MIB
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.transfer.data_plane import DataPlane
from nova_snapshot_driver.transfer.jobs.job import Job
from nova_snapshot_driver.transfer.jobs.job import Verdict
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.jobs.job import Written


@dataclasses.dataclass(frozen=True)
class IncrementProof:
    """The facts about an image that builds on another one, or may.

    :ivar name: of the snapshot
    :ivar parent: the snapshot that it builds on; None for none
    :ivar way: by which what has changed was found: bitmap, compare or full
    :ivar reason: of the way
    :ivar public_reason: what the owner of the server may read of it
    :ivar changed: the bytes of the disk that were found to differ
    :ivar written: the size of the image in bytes, or what was sent to Cinder
    :ivar tree: the hash over those of all chunks of the disk
    :ivar file: the path of the image; None where it is none of this host
    :ivar volume: the id of the volume in Cinder that it went to, if any
    :ivar snapshot: the id of the snapshot of that volume
    """

    name: str
    parent: str | None
    way: str
    reason: str
    public_reason: str
    changed: int
    written: int
    tree: str
    file: str | None = None
    volume: str | None = None
    snapshot: str | None = None

    def __str__(self) -> str:
        if self.parent is None:
            return f'full ({self.reason})'
        return (
            f'increment of {self.parent}: {-(-self.changed // MIB)} MiB '
            f'changed, {WORDS[Way(self.way)]} ({self.reason})'
        )


@dataclasses.dataclass(frozen=True)
class Proof:
    """The facts that are proven of an image that has arrived.

    :ivar sha512: of its bytes; None where nobody else has hashed them
    :ivar dropped: the properties that Glance has refused, and it lacks
    :ivar increment: None of an image that stands alone
    """

    size: int
    sha512: str | None
    dropped: tuple[str, ...] = ()
    increment: IncrementProof | None = None


@dataclasses.dataclass(frozen=True)
class Artefacts:
    """The things that a snapshot makes, and leaves if its process dies.

    :ivar images: the ids of the images in Glance
    :ivar project: that those belong to; None where nobody knows
    :ivar files: the paths of the images on this host
    :ivar drafts: the paths of the files, until they are complete
    :ivar volumes: the ids of the volumes whose snapshots an image maps
    :ivar server: the id of the server whose shadow volume an image maps
    """

    images: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    drafts: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    server: str | None = None
    project: str | None = None


class Destination(abc.ABC):
    """Where a snapshot goes.

    How the image of a disk gets there is for the classes below: a destination
    is of each one whose way it offers.

    :ivar wish: what Nova's own driver would pass over, in words; None where it
        could take the snapshot instead
    """

    wish: str | None = None

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
    """A destination that takes the content of views as they are read."""

    @abc.abstractmethod
    def stream(
        self,
        process: DataPlane,
        view: View,
        planned: PlannedDisk,
        directory: str,
        properties: dict[str, Any],
    ) -> Proof:
        """Take the image of a disk.

        :param process: started for a ``Stream``
        :param view: of the disk
        :param directory: of the snapshot's own, where sockets may lie
        """


class Staged(Destination):
    """A destination that takes a file of this host with a whole image."""

    @abc.abstractmethod
    def place(self, root: str) -> Place:
        """Where the files take room.

        :param root: ``[libvirt] snapshots_directory``
        """

    @abc.abstractmethod
    def staging(self, workspace: Workspace, planned: PlannedDisk) -> str:
        """The path of the file that the image of a disk becomes first."""

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


#: Compares what a destination has with what was read from a disk.
Prove = Callable[[Verify], Verdict]


class Incremental(Destination):
    """A destination that keeps what has changed since the snapshot before.

    :cvar KEEPING: how
    :cvar JOB: that writes the changes
    """

    KEEPING: ClassVar[Keeping]
    JOB: ClassVar[type[Job[Written]]]

    @property
    @abc.abstractmethod
    def place(self) -> Place | None:
        """Where the snapshot takes room on this host; None for nowhere."""

    @property
    @abc.abstractmethod
    def record(self) -> str:
        """The path of a file that is there once the snapshot is complete."""

    @abc.abstractmethod
    def new_bitmap(self) -> str:
        """A name for the bitmap that may begin with the snapshot.

        QEMU refuses one that any earlier bitmap has had.
        """

    @property
    @abc.abstractmethod
    def bitmaps_before(self) -> tuple[Bitmap, ...]:
        """The bitmaps that are of no use once the snapshot is complete."""

    @abc.abstractmethod
    def base(self, guest: Guest, target: str) -> Base | None:
        """The snapshot that the next one may build on.

        :param target: the name of the disk in the domain, as ``vda``
        """

    def opened(
        self, _guest: Guest, _plan: Plan, _tools: CaptureTools
    ) -> contextlib.AbstractContextManager[None]:
        """Be ready for the changes, for as long as the context lasts.

        The guest is not touched before. Files are always ready.

        :raises VolumeChanged: not as the plan has it; the next one knows
        """
        return contextlib.nullcontext()

    @abc.abstractmethod
    def job(self, view: View, plan: Plan, directory: str) -> Job[Written]:
        """The job that writes the changes.

        :param directory: of the snapshot's own, where sockets may lie
        """

    @abc.abstractmethod
    def complete(
        self,
        guest: Guest,
        plan: Plan,
        written: Written,
        properties: dict[str, Any],
        prove: Prove,
        directory: str,
    ) -> Proof:
        """Have the snapshot, proven, of the changes that are written.

        :param properties: of an image of the disk
        :param directory: of the snapshot's own, where sockets may lie
        """
