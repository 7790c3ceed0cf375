# SPDX-License-Identifier: Apache-2.0
"""The record of a snapshot in a chain of files."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any
from typing import ClassVar
from typing import Self

from nova_snapshot_driver.common import codec
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.common.way import Way

#: The suffixes that follow the name of a snapshot in the names of its files.
IMAGE = '.qcow2'
LEAVES = '.leaves'
RECORD = '.json'

SUFFIXES = (IMAGE, LEAVES, RECORD)

LONGEST_NAME = 128

_NAME = re.compile(rf'[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}')
_CREATED = re.compile(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', re.ASCII)
_UUID = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')
_DISK = re.compile(r'[A-Za-z0-9]{1,32}')
_SHA256 = re.compile(r'[0-9a-f]{64}')


@dataclasses.dataclass(frozen=True)
class ChainRecord:
    """A snapshot in a chain of files.

    :ivar number: its place in the chain. The clock of a host may go back
    :ivar created: the instant of the snapshot, in UTC
    :ivar domain: the name of the domain
    :ivar uuid: of the domain
    :ivar disk: the target of the disk in the domain, as ``vda``
    :ivar size: of the disk, in bytes
    :ivar parent: the snapshot that has what this one lacks; None for a full
        one
    :ivar reason: why it was not done by a bitmap; None where it was
    :ivar bitmap: the dirty bitmap that began at this instant; None where there
        is none
    :ivar stale_bitmaps: dirty bitmaps that are of no use any more, and could
        not be removed since the guest was shut off
    :ivar changed: the bytes that were found to differ from the parent
    :ivar written: the size of the image, in bytes
    :ivar tree: the SHA-256 of the leaves and the size, as ``transfer.leaves``
        computes it
    """

    VERSION: ClassVar[int] = 1

    name: str
    number: int
    created: str
    domain: str
    uuid: str
    disk: str
    size: int
    parent: str | None
    way: Way
    reason: str | None
    bitmap: str | None
    stale_bitmaps: tuple[str, ...]
    changed: int
    written: int
    tree: str

    def __post_init__(self) -> None:
        for name, pattern in _PATTERNS.items():
            value = getattr(self, name)
            if value is not None and not pattern.fullmatch(value):
                raise ValueError(f'the {name} {value!r} is none')
        for bitmap in (self.bitmap, *self.stale_bitmaps):
            if bitmap is not None and not naming.is_bitmap(
                bitmap, naming.CHAIN_BITMAP
            ):
                raise ValueError(f'the bitmap {bitmap!r} is not ours')
        for name in ('number', 'size', 'changed', 'written'):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ValueError(f'the {name} {value!r} is none')
        if (self.parent is None) != (self.way is Way.FULL):
            raise ValueError('a full one has no parent, and any other has one')

    @property
    def image(self) -> str:
        """The name of the file with the image."""
        return self.name + IMAGE

    @property
    def file(self) -> str:
        """The name of the file with the record itself."""
        return self.name + RECORD

    @property
    def leaves(self) -> str:
        """The name of the file with the leaves."""
        return self.name + LEAVES

    def to_dict(self) -> dict[str, Any]:
        return {'version': self.VERSION, **codec.fields_of(self)}

    @classmethod
    def from_dict(cls, fields: Any) -> Self:
        """
        :raises ValueError, TypeError: it is no record
        """
        if not isinstance(fields, Mapping):
            raise TypeError('it is no record')
        values = dict(fields)
        version = values.pop('version', None)
        if version != cls.VERSION:
            raise ValueError(
                f'its version is {version!r}, and this program knows '
                f'{cls.VERSION}'
            )
        record: Self = codec.built(cls, values)
        return record


_PATTERNS = {
    'name': _NAME,
    'parent': _NAME,
    'created': _CREATED,
    'uuid': _UUID,
    'disk': _DISK,
    'tree': _SHA256,
}


def is_name(name: str) -> bool:
    """Whether a snapshot may have a name."""
    return _NAME.fullmatch(name) is not None
