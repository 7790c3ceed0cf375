# SPDX-License-Identifier: Apache-2.0
"""The jobs of the data plane, as both of its sides know them.

The modules that do them are loaded by the process alone.
"""

from __future__ import annotations

import abc
import dataclasses
import typing
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import ClassVar
from typing import Generic
from typing import Protocol
from typing import Self
from typing import TypeVar

from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.transfer.formats.encoding import Encoding

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
            field.name: _written(getattr(self, field.name))
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
            **{name: _READERS[types[name]](fields[name]) for name in names}
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
        return Sent(_number(said.get('size')), _text(said.get('sha512')))


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
        return _number(said.get('size'))


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


AnyJob = Extract | Flatten | Save | Stream | Upload

#: By its word, each kind of job.
KINDS: dict[str, type[AnyJob]] = {
    job.kind: job for job in typing.get_args(AnyJob)
}


def view_to_dict(view: View) -> dict[str, Any]:
    return {type(view).__name__.lower(): dataclasses.asdict(view)}


def view_from_dict(view: Any) -> View:
    match view:
        case {'export': dict(fields)}:
            return _with_all(Export.from_dict, fields)
        case {'layer': dict(fields)}:
            return _with_all(Layer.from_dict, fields)
    # Quote nothing of the view: a passphrase may be in it.
    raise ValueError(f'a {type(view).__name__} is no view')


def _encoding(encoding: Any) -> Encoding:
    if not isinstance(encoding, dict):
        raise ValueError(f'no encoding: {encoding!r}')
    return _with_all(lambda fields: Encoding(**fields), encoding)


def _with_all(
    build: Callable[[dict[str, Any]], T], fields: dict[str, Any]
) -> T:
    try:
        return build(fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f'wrong fields: {error}') from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f'no text: {value!r}')
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise ValueError(f'no list: {values!r}')
    return tuple(map(_text, values))


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f'no number: {value!r}')
    return value


def _written(value: Any) -> Any:
    match value:
        case Export() | Layer():
            return view_to_dict(value)
        case Encoding():
            return dataclasses.asdict(value)
        case tuple():
            return list(value)
    return value


#: The functions that read fields, by the type of the field.
_READERS: dict[Any, Callable[[Any], Any]] = {
    View: view_from_dict,
    Encoding: _encoding,
    str: _text,
    tuple[str, ...]: _texts,
    int: _number,
}
