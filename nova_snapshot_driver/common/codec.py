# SPDX-License-Identifier: Apache-2.0
"""Records as JSON, which is believed nothing when it is read."""

from __future__ import annotations

import dataclasses
import enum
import os
import types
import typing
from typing import Any

#: The absolute path of a file, which need not be UTF-8.
FilePath = typing.NewType('FilePath', str)


def fields_of(record: Any) -> dict[str, Any]:
    """The fields of a dataclass, as ``json`` takes them."""
    return dataclasses.asdict(
        record,
        dict_factory=lambda pairs: {
            name: value.value if isinstance(value, enum.Enum) else value
            for name, value in pairs
        },
    )


def built(kind: Any, value: Any) -> Any:
    """The object of a kind that JSON describes.

    :param kind: a dataclass, or the kind of one of its fields
    :raises ValueError, TypeError: JSON describes no such object
    """
    if kind is FilePath:
        return _path(value)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return _optional(kind, value)
    if typing.get_origin(kind) is tuple:
        _see_kind(list, value)
        return tuple(built(typing.get_args(kind)[0], each) for each in value)
    if dataclasses.is_dataclass(kind):
        return _record(kind, value)
    if issubclass(kind, enum.Enum):
        return kind(value)
    _see_kind(kind, value)
    if kind is str:
        _see_text(value)
    return value


def _record(kind: Any, value: Any) -> Any:
    _see_kind(dict, value)
    # Constants of the class are no fields. One with a default may be newer
    # than the record.
    fields = dataclasses.fields(kind)
    needed = {
        field.name for field in fields if field.default is dataclasses.MISSING
    }
    if not needed <= set(value) <= {field.name for field in fields}:
        raise ValueError('the fields of a record are others')
    hints = typing.get_type_hints(kind)
    return kind(**{name: built(hints[name], value[name]) for name in value})


def _optional(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    (inner,) = (
        each for each in typing.get_args(kind) if each is not types.NoneType
    )
    return built(inner, value)


def _path(value: Any) -> str:
    _see_kind(str, value)
    if not os.path.isabs(value) or b'\0' in os.fsencode(value):
        raise ValueError('a path is none')
    return str(value)


def _see_kind(kind: type, value: Any) -> None:
    if not isinstance(value, kind):
        raise TypeError(f'a field is no {kind.__name__}')


def _see_text(text: str) -> None:
    """See that libvirt and commands take it: they know no other text."""
    text.encode()
    if '\0' in text:
        raise ValueError('there is a NUL in a text')
