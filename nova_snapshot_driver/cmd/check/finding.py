# SPDX-License-Identifier: Apache-2.0
"""The findings of ``nova-snapshot check``."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable

from nova_snapshot_driver import exception


class Verdict(enum.StrEnum):
    """The names of the results of ``nova-status upgrade check``."""

    SUCCESS = 'SUCCESS'
    #: Worth knowing, and possibly intended.
    WARNING = 'WARNING'
    #: An obstacle to a snapshot.
    FAILURE = 'FAILURE'


#: The beginning of the detail of a warning about what could not be looked at.
NOT_KNOWN = 'Not known:'


class NotKnown(Exception):
    """Nobody could look; the text says why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A verdict on one subject of the check.

    :ivar detail: what was found, or what is wrong and what to do
    """

    subject: str
    verdict: Verdict
    detail: str


def look(subject: str, check: Callable[[], str]) -> Finding:
    """The finding of a check that returns a detail, or raises."""
    try:
        return Finding(subject, Verdict.SUCCESS, check())
    except NotKnown as unknown:
        return Finding(subject, Verdict.WARNING, f'{NOT_KNOWN} {unknown}')
    except PermissionError as error:
        return Finding(
            subject,
            Verdict.WARNING,
            f'{NOT_KNOWN} {error.filename} cannot be looked at '
            f'({error.strerror}).',
        )
    except exception.Cancelled:
        raise
    except exception.SnapshotError as error:
        return Finding(subject, Verdict.FAILURE, str(error))
