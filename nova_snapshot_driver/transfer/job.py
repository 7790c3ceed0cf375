# SPDX-License-Identifier: Apache-2.0
"""What both sides of the data plane know of a job."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from typing import Protocol

from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.view import Export
from nova_snapshot_driver.view import View


class Parent(Protocol):
    """The process that wants the job done."""

    def progress(self, done: int, total: int) -> None: ...

    def glance_access(self) -> dict[str, Any]: ...


def view_to_dict(view: View) -> dict[str, Any]:
    return {type(view).__name__.lower(): dataclasses.asdict(view)}


def view_from_dict(view: Mapping[str, Any]) -> View:
    match view:
        case {'export': fields}:
            return Export(**fields)
        case {'layer': fields}:
            return Layer(**fields)
    raise ValueError(f'no view: {view}')
