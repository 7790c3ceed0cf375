# SPDX-License-Identifier: Apache-2.0
"""The fields of jobs and of their results, as JSON has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any
from typing import TypeVar

from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.common.view import Volume
from nova_snapshot_driver.transfer.formats.encoding import Encoding

T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Base:
    """The snapshot that an increment is an increment to.

    :ivar size: of the disk then, in bytes
    :ivar leaves: the path of the file with its leaves
    :ivar tree: the hash of its leaves, as ``formats.leaves`` computes it
    """

    size: int
    leaves: str
    tree: str


def view_to_dict(view: View) -> dict[str, Any]:
    return {type(view).__name__.lower(): dataclasses.asdict(view)}


def view_from_dict(view: Any) -> View:
    match view:
        case {'export': dict(fields)}:
            return _with_all(Export.from_dict, fields)
        case {'layer': dict(fields)}:
            return _with_all(Layer.from_dict, fields)
        case {'volume': dict(fields)}:
            return _with_all(Volume.from_dict, fields)
    # Quote nothing of the view: a passphrase may be in it.
    raise ValueError(f'a {type(view).__name__} is no view')


def _volume(view: Any) -> Volume:
    volume = view_from_dict(view)
    if not isinstance(volume, Volume):
        raise ValueError(f'a {type(volume).__name__} is no volume')
    return volume


def _encoding(encoding: Any) -> Encoding:
    if not isinstance(encoding, dict):
        raise ValueError(f'no encoding: {encoding!r}')
    return _with_all(lambda fields: Encoding(**fields), encoding)


def _base(base: Any) -> Base | None:
    if base is None:
        return None
    if not isinstance(base, dict):
        raise ValueError(f'no base: {base!r}')
    return _with_all(lambda fields: Base(**fields), base)


def _optional_text(value: Any) -> str | None:
    return None if value is None else text(value)


def _with_all(
    build: Callable[[dict[str, Any]], T], fields: dict[str, Any]
) -> T:
    try:
        return build(fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f'wrong fields: {error}') from error


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f'no text: {value!r}')
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise ValueError(f'no list: {values!r}')
    return tuple(map(text, values))


def number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f'no number: {value!r}')
    return value


def written(value: Any) -> Any:
    match value:
        case Export() | Layer() | Volume():
            return view_to_dict(value)
        case Base() | Encoding():
            return dataclasses.asdict(value)
        case tuple():
            return list(value)
    return value


#: The functions that read fields, by the type of the field.
READERS: dict[Any, Callable[[Any], Any]] = {
    View: view_from_dict,
    Volume: _volume,
    Encoding: _encoding,
    Base | None: _base,
    str: text,
    str | None: _optional_text,
    tuple[str, ...]: _texts,
    int: number,
}
