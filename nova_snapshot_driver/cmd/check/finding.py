# SPDX-License-Identifier: Apache-2.0
"""The findings of ``nova-snapshot check``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from nova_snapshot_driver import exception


@dataclasses.dataclass(frozen=True)
class Finding:
    """A verdict on one subject of the check.

    :ivar verdict: ``ok``, ``note`` for what a person may want to know, or
        ``bad`` for what stands in the way of a snapshot
    :ivar detail: what was found, or what is wrong and what to do
    """

    subject: str
    verdict: str
    detail: str


def look(subject: str, check: Callable[[], str]) -> Finding:
    """The finding of a check that returns a detail, or raises."""
    try:
        return Finding(subject, 'ok', check())
    except exception.Cancelled:
        raise
    except exception.SnapshotError as error:
        return Finding(subject, 'bad', str(error))
