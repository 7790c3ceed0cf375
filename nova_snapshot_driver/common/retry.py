# SPDX-License-Identifier: Apache-2.0
"""Attempts that are made again when they fail, each of which is logged."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import tenacity
from oslo_log import log as logging

from nova_snapshot_driver.common import reason
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.cancellation import Cancellation

LOG = logging.getLogger(__name__)

Result = TypeVar('Result')


def call(
    action: Callable[[], Result],
    what: str,
    on: type[Exception]
    | tuple[type[Exception], ...]
    | Callable[[BaseException], bool],
    *,
    attempts: float = math.inf,
    timeout: float = math.inf,
    pause: float = 1,
    longest_pause: float | None = None,
    cancellation: Cancellation | None = None,
) -> Result:
    """Do something, and try again when it fails.

    The last error is raised once ``attempts`` have been made, or ``timeout``
    is over.

    :param what: is done, in words, for the log
    :param on: the errors after which it is tried again
    :param timeout: the seconds after which no attempt is made any more
    :param pause: the seconds before the next attempt
    :param longest_pause: up to which the pause is doubled each time; None:
        every pause is as long as the first
    :param cancellation: ends the pauses
    """
    deadline = wait.CLOCK.monotonic() + timeout

    def is_last(state: tenacity.RetryCallState) -> bool:
        return (
            state.attempt_number >= attempts
            or wait.CLOCK.monotonic() >= deadline
        )

    def log(state: tenacity.RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        LOG.info(
            '%s: attempt %d failed, trying again: %s',
            what,
            state.attempt_number,
            reason.of(error) if error else '-',
        )

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(on)
        if isinstance(on, type | tuple)
        else tenacity.retry_if_exception(on),
        stop=is_last,
        wait=tenacity.wait_exponential(pause, max=longest_pause or pause),
        sleep=lambda seconds: wait.CLOCK.sleep(seconds, cancellation),
        before_sleep=log,
        reraise=True,
    )
    return retrying(action)
