# SPDX-License-Identifier: Apache-2.0
"""The jobs of the data plane, as both of its sides know them.

The modules that do them are loaded by the process alone.
"""

from __future__ import annotations

import abc
import dataclasses
import typing
from collections.abc import Mapping
from typing import Any
from typing import ClassVar
from typing import Generic
from typing import Protocol
from typing import Self
from typing import TypeVar

from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.common.view import Volume
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs import job_fields
from nova_snapshot_driver.transfer.jobs.job_fields import Base

T = TypeVar('T')


class Parent(Protocol):
    """The process that wants the job done."""

    def progress(self, done: int, total: int) -> None: ...

    def glance_access(self) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class Sent:
    """The content that Glance is proven to hold.

    :ivar size: in bytes
    """

    size: int
    sha512: str


@dataclasses.dataclass(frozen=True)
class Written:
    """A snapshot that was written as an increment, or as the first one.

    :ivar size: of its image, in bytes; of a volume, the data that were sent
    :ivar changed: the bytes of the chunks that differ from its base
    :ivar tree: the hash of its leaves
    """

    size: int
    changed: int
    tree: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of a comparison of an image with its leaves.

    :ivar damaged: how many chunks differ
    :ivar offsets: of the first of them, in bytes
    """

    damaged: int
    offsets: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Job(abc.ABC, Generic[T]):
    """The task of one process of the data plane.

    :cvar kind: its word, on the command line and in messages
    :cvar timeout_option: the option with the seconds that it may take
    """

    kind: ClassVar[str]
    timeout_option: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """The job as JSON has it."""
        return {
            field.name: job_fields.written(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """A job from what ``to_dict()`` has made of one.

        :raises ValueError: the fields are not those of such a job
        """
        types = typing.get_type_hints(cls)
        names = {field.name for field in dataclasses.fields(cls)}
        if fields.keys() != names:
            raise ValueError(f'no job to {cls.kind}: {sorted(fields)}')
        return cls(
            **{
                name: job_fields.READERS[types[name]](fields[name])
                for name in names
            }
        )

    @staticmethod
    @abc.abstractmethod
    def result(said: Mapping[str, Any]) -> T:
        """The result of the job.

        :param said: by the process, which is not trusted
        :raises ValueError: the process said something else than a result
        """


class _Sending(Job[Sent]):
    """A job whose content goes to Glance."""

    @staticmethod
    def result(said: Mapping[str, Any]) -> Sent:
        return Sent(
            job_fields.number(said.get('size')),
            job_fields.text(said.get('sha512')),
        )


class _Writing(Job[Written]):
    """A job that writes what has changed on a disk."""

    @staticmethod
    def result(said: Mapping[str, Any]) -> Written:
        return Written(
            job_fields.number(said.get('size')),
            job_fields.number(said.get('changed')),
            job_fields.text(said.get('tree')),
        )


class _Silent(Job[None]):
    """A job that has nothing to tell but its success."""

    @staticmethod
    def result(said: Mapping[str, Any]) -> None:
        if said:
            raise ValueError(f'no result was expected: {sorted(said)}')


@dataclasses.dataclass(frozen=True)
class Extract(_Silent):
    """Write the content of a view into a flat image, by ``qemu-img``.

    It is for formats that can't be written in one pass, and for hosts without
    libnbd.

    :ivar path: of a file that is new, or was left by an attempt before
    :raises CommandFailed: ``qemu-img convert`` failed
    """

    kind = 'extract'
    timeout_option = 'extract_timeout'

    view: View
    encoding: Encoding
    path: str


@dataclasses.dataclass(frozen=True)
class Flatten(_Silent):
    """Have a clone in Ceph get all of its data.

    :ivar command: that does it
    :ivar image: the name of the clone
    :raises CephError: it failed
    """

    kind = 'flatten'
    timeout_option = 'flatten_timeout'

    command: tuple[str, ...]
    image: str


@dataclasses.dataclass(frozen=True)
class Hash(Job[str]):
    """Write the leaves of a view: the SHA-256 of each chunk.

    The result is the hash of the leaves.

    :ivar leaves: the path of a file that is new, or was left by an attempt
        before
    :ivar directory: of the snapshot's own, where sockets may lie
    :raises LibnbdMissing: it can't be done here
    :raises FileUnwritable: the file
    :raises SourceUnreadable: the view, in whole or in part
    """

    kind = 'hash'
    timeout_option = 'extract_timeout'

    view: View
    leaves: str
    directory: str

    @staticmethod
    def result(said: Mapping[str, Any]) -> str:
        return job_fields.text(said.get('tree'))


@dataclasses.dataclass(frozen=True)
class Increment(_Writing):
    """Write what a disk has that its last snapshot lacks into a qcow2 image.

    Where the view exports a dirty bitmap, that says which chunks to look at;
    it has to be the one that began at the instant of the base. Else all of the
    disk is read. Either way, a chunk whose hash is that of the base is left
    out, and the image is an overlay over that of the base. Without a base all
    of the disk is written.

    Nothing proves yet that the image was written well: ``Verify`` does, which
    needs no view of the disk any more.

    :ivar base: None for a full snapshot
    :ivar backing: the name of the image of the base, in the directory of that
        of the increment; None for a full snapshot
    :ivar path: of the image, a file that is new, or was left by an attempt
        before
    :ivar leaves: the path of the file for the leaves, which is as new
    :ivar directory: of the snapshot's own, where sockets may lie
    :raises LeavesDamaged: the leaves of the base are not those of its tree
    :raises LibnbdMissing: it can't be done here
    :raises FileUnwritable: a file can't be written, or not to its end
    :raises SourceUnreadable: the view, in whole or in part
    """

    kind = 'increment'
    timeout_option = 'extract_timeout'

    view: View
    base: Base | None
    backing: str | None
    path: str
    leaves: str
    directory: str


@dataclasses.dataclass(frozen=True)
class Restore(Job[int]):
    """Write the content of a view into a flat image, if it has its leaves.

    The result is the size of the image, in bytes.

    :ivar leaves: the path of the file with its leaves
    :ivar tree: the hash of the leaves
    :ivar size: of the disk, in bytes
    :ivar format: qcow2 or raw
    :ivar path: of a file that is new, or was left by an attempt before
    :ivar directory: of the command's own, where sockets may lie
    :raises DiskDamaged: a chunk has another hash
    :raises LeavesDamaged: the leaves are not those of the tree
    :raises LibnbdMissing: it can't be done here
    :raises FileUnwritable: the file can't be written, or not to its end
    :raises SourceUnreadable: the view, in whole or in part
    """

    kind = 'restore'
    timeout_option = 'extract_timeout'

    view: View
    leaves: str
    tree: str
    size: int
    format: str
    path: str
    directory: str

    @staticmethod
    def result(said: Mapping[str, Any]) -> int:
        return job_fields.number(said.get('size'))


@dataclasses.dataclass(frozen=True)
class Save(Job[int]):
    """Write the content of a view into an image, in one pass.

    The result is the size of the image, in bytes.

    :ivar encoding: one of those that are ``encoding.STREAMABLE``
    :ivar path: of a file that does not exist yet, or is empty
    :ivar directory: of the snapshot's own, where sockets may lie
    :raises OutputExists: there is something at the path
    :raises DirectoryUnusable: the file can't be written, or not to its end
    :raises LibnbdMissing: it can't be done in one pass here
    :raises SourceUnreadable: the view, in whole or in part
    """

    kind = 'save'
    timeout_option = 'extract_timeout'

    view: View
    encoding: Encoding
    path: str
    directory: str

    @staticmethod
    def result(said: Mapping[str, Any]) -> int:
        return job_fields.number(said.get('size'))


@dataclasses.dataclass(frozen=True)
class Stream(_Sending):
    """Send the content of a view to Glance, in one pass, and prove it.

    :ivar encoding: one of those that are ``encoding.STREAMABLE``
    :ivar image: its id in Glance
    :ivar files: with certificates and keys, that the way to Glance leads by
    :ivar retries: how often a failed attempt is repeated, from byte 0
    :ivar directory: of the snapshot's own, where sockets may lie
    :raises LibnbdMissing: it can't be done in one pass here
    :raises SourceUnreadable: the view, in whole or in part
    :raises UploadFailed: all attempts failed
    :raises ImageNotFound: the image was deleted meanwhile
    :raises ImageVerificationFailed: Glance holds something else
    """

    kind = 'stream'
    timeout_option = 'upload_timeout'

    view: View
    encoding: Encoding
    image: str
    files: tuple[str, ...]
    retries: int
    directory: str


@dataclasses.dataclass(frozen=True)
class Upload(_Sending):
    """Send a file to Glance and prove that it holds what was sent.

    :ivar path: of the file
    :ivar image: its id in Glance
    :ivar files: with certificates and keys, that the way to Glance leads by
    :ivar retries: how often a failed attempt is repeated, from byte 0
    :raises UploadFailed: all attempts failed
    :raises ImageNotFound: the image was deleted meanwhile
    :raises ImageVerificationFailed: Glance holds something else
    """

    kind = 'upload'
    timeout_option = 'upload_timeout'

    path: str
    image: str
    files: tuple[str, ...]
    retries: int


@dataclasses.dataclass(frozen=True)
class Verify(Job[Verdict]):
    """Compare the content of a view with its leaves.

    :ivar leaves: the path of the file with its leaves
    :ivar tree: the hash of the leaves
    :ivar size: of the disk, in bytes
    :ivar base_leaves: the path of the file with the leaves of another view.
        Chunks that have the same hash in both are not read: they are in no
        increment. None to read all
    :ivar directory: of the snapshot's own, where sockets may lie
    :raises LeavesDamaged: the leaves are not those of the tree
    :raises LibnbdMissing: it can't be done here
    :raises SourceUnreadable: the view, in whole or in part
    """

    kind = 'verify'
    timeout_option = 'extract_timeout'

    view: View
    leaves: str
    tree: str
    size: int
    base_leaves: str | None
    directory: str

    @staticmethod
    def result(said: Mapping[str, Any]) -> Verdict:
        offsets = said.get('offsets')
        if not isinstance(offsets, list):
            raise ValueError(f'no offsets: {offsets!r}')
        return Verdict(
            job_fields.number(said.get('damaged')),
            tuple(map(job_fields.number, offsets)),
        )


@dataclasses.dataclass(frozen=True)
class Update(_Writing):
    """Write what a disk has that its last snapshot lacks into a volume.

    What has changed is found as by an ``Increment``. The volume has the
    content of the base, or is blank where there is none: all that is not
    written stays as it is.

    Nothing proves yet that the volume was written well: ``Verify`` does, by a
    snapshot of the volume.

    :ivar base: None for a volume that is blank
    :ivar volume: that is written
    :ivar leaves: the path of the file for the leaves, which is new, or was
        left by an attempt before
    :ivar directory: of the snapshot's own, where sockets may lie
    :raises LeavesDamaged: the leaves of the base are not those of its tree
    :raises LibnbdMissing: it can't be done here
    :raises FileUnwritable: the leaves can't be written
    :raises SourceUnreadable: the view, in whole or in part
    :raises VolumeUnwritable: the volume, in whole or in part
    """

    kind = 'update'
    timeout_option = 'upload_timeout'

    view: View
    base: Base | None
    volume: Volume
    leaves: str
    directory: str


AnyJob = (
    Extract
    | Flatten
    | Hash
    | Increment
    | Restore
    | Save
    | Stream
    | Update
    | Upload
    | Verify
)

#: By its word, each kind of job.
KINDS: dict[str, type[AnyJob]] = {
    job.kind: job for job in typing.get_args(AnyJob)
}
