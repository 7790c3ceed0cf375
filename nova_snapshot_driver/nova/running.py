# SPDX-License-Identifier: Apache-2.0
"""The snapshots that a nova-compute is taking."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.cancellation import Cancellation

LOG = logging.getLogger(__name__)

POLL_INTERVAL = 0.1


class RunningSnapshots:
    """The snapshots that are being taken, by instance, which can be ended."""

    def __init__(self) -> None:
        self._running: list[tuple[str, Cancellation]] = []
        self._over: exception.Cancelled | None = None

    @contextlib.contextmanager
    def of(self, instance: str) -> Iterator[Cancellation]:
        """Register a snapshot of an instance, while the context lasts.

        A second one may be there until the lock of the domain refuses it.

        :param instance: its UUID
        """
        snapshot = (instance, Cancellation())
        if self._over is not None:
            snapshot[1].stop(self._over)
        self._running.append(snapshot)
        try:
            yield snapshot[1]
        finally:
            self._running.remove(snapshot)

    def has(self, instance: str) -> bool:
        """
        :param instance: its UUID
        """
        return any(each[0] == instance for each in self._running)

    def end(self, instance: str, reason: str, timeout: float) -> None:
        """Cancel the snapshots of an instance, if there are any, and wait.

        :param instance: its UUID
        :param timeout: in seconds, after which this returns anyway
        """
        self._end(
            [each for each in self._running if each[0] == instance],
            exception.Cancelled(reason=reason),
            timeout,
        )

    def end_all(self, reason: str, timeout: float) -> None:
        """Cancel the snapshots of all instances, wait, and refuse new ones."""
        self._over = exception.CancelledByStop(reason=reason)
        self._end(list(self._running), self._over, timeout)

    def _end(
        self,
        ending: list[tuple[str, Cancellation]],
        error: exception.Cancelled,
        timeout: float,
    ) -> None:
        for instance, cancellation in ending:
            LOG.info('%s', error, instance_uuid=instance)
            cancellation.stop(error)
        wait.holds_within(
            lambda: not self._left_of(ending), timeout, interval=POLL_INTERVAL
        )
        for instance, _cancellation in self._left_of(ending):
            LOG.error(
                'The snapshot has not given the guest back within %s s',
                timeout,
                instance_uuid=instance,
            )

    def _left_of(
        self, ending: list[tuple[str, Cancellation]]
    ) -> list[tuple[str, Cancellation]]:
        return [each for each in ending if each in self._running]
