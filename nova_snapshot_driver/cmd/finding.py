# SPDX-License-Identifier: Apache-2.0
"""What ``nova-snapshot check`` has found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from nova_snapshot_driver import exception


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :ivar verdict: ``ok``, ``note`` for what a person may want to know, or
        ``bad`` for what stands in the way of a snapshot
    :ivar detail: what was found, or what is wrong and what to do
    """

    subject: str
    verdict: str
    detail: str


def look(subject: str, check: Callable[[], str]) -> Finding:
    """Have something checked that says what it found, or raises."""
    try:
        return Finding(subject, 'ok', check())
    except exception.Cancelled:
        raise
    except exception.SnapshotError as error:
        return Finding(subject, 'bad', str(error))
