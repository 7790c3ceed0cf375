# SPDX-License-Identifier: Apache-2.0
"""Undo steps that are not given up at the first refusal."""

from __future__ import annotations

from collections.abc import Callable

import tenacity
from oslo_log import log as logging

from nova_snapshot_driver import events
from nova_snapshot_driver import exception
from nova_snapshot_driver.events import Event

LOG = logging.getLogger(__name__)

ATTEMPTS = 3
PAUSE = 1.0


def surely(
    domain: str, operation: str, action: Callable[[], None], remedy: str
) -> None:
    """Undo a change to the host, and try again when that is refused.

    :param remedy: what a person can do where all attempts failed
    :raises NotGivenBack: all attempts failed
    """
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(exception.SnapshotError),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_fixed(PAUSE),
        reraise=True,
    )
    try:
        attempts(action)
    except exception.SnapshotError as error:
        events.tell(
            LOG.critical,
            Event.NOT_GIVEN_BACK,
            f'Domain {domain}: {operation} failed: {error}',
            undo=operation,
        )
        raise exception.NotGivenBack(
            domain=domain,
            undo=operation,
            reason=str(error).rstrip('.'),
            remedy=remedy,
        ) from error
