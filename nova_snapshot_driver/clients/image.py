# SPDX-License-Identifier: Apache-2.0
"""Images, as Glance describes them, without Glance's slow client."""

from __future__ import annotations

import dataclasses
from typing import Any

from nova_snapshot_driver import exception


@dataclasses.dataclass(frozen=True)
class Image:
    """An image as Glance describes it."""

    id: str
    name: str | None
    status: str
    size: int | None
    os_hash_algo: str | None
    os_hash_value: str | None
    properties: dict[str, Any]

    @classmethod
    def of(cls, record: dict[str, Any]) -> Image:
        """An image from its record, by the names of Glance's API."""
        own = {field.name for field in dataclasses.fields(cls)}
        own.discard('properties')
        known: dict[str, Any] = {name: record.get(name) for name in own}
        others = {name: record[name] for name in record if name not in own}
        return cls(**known, properties=others)


def refusal(status: int | None) -> type[exception.GlanceError]:
    """The error that an answer of Glance about an image stands for.

    :param status: of the answer; None if there was none
    """
    match status:
        # Glance answers 410 to an upload whose image was deleted meanwhile.
        case 404 | 410:
            return exception.ImageNotFound
        case None | 408 | 409 | 429:
            return exception.GlanceUnavailable
        case _ if status >= 500:
            return exception.GlanceUnavailable
        case _:
            return exception.GlanceError
