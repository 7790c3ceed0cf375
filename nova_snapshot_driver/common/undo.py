# SPDX-License-Identifier: Apache-2.0
"""Undo steps, which are retried."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.common.events import Event

LOG = logging.getLogger(__name__)

ATTEMPTS = 3

_here = threading.local()


@contextlib.contextmanager
def under_way() -> Iterator[None]:
    """Protect an undo, which this thread does inside, from cancellation."""
    before = is_under_way()
    _here.is_under_way = True
    try:
        yield
    finally:
        _here.is_under_way = before


def is_under_way() -> bool:
    """Whether this thread is undoing something."""
    return getattr(_here, 'is_under_way', False)


def retry_undo(
    domain: str, operation: str, action: Callable[[], None], remedy: str
) -> None:
    """Undo a change to the host, with retries.

    :param remedy: what a person can do where all attempts failed
    :raises UndoFailed: all attempts failed
    """
    try:
        with under_way():
            retry.call(
                action,
                f'Domain {domain}: {operation}',
                exception.SnapshotError,
                attempts=ATTEMPTS,
            )
    except exception.SnapshotError as error:
        events.log_event(
            LOG.critical,
            Event.NOT_GIVEN_BACK,
            f'Domain {domain}: {operation} failed: {error}',
            undo=operation,
        )
        raise exception.UndoFailed(
            domain=domain,
            undo=operation,
            reason=str(error).rstrip('.'),
            remedy=remedy,
        ) from error
