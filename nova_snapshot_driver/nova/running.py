# SPDX-License-Identifier: Apache-2.0
"""The snapshots that a nova-compute is taking."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation

LOG = logging.getLogger(__name__)

POLL_INTERVAL = 0.1


class RunningSnapshots:
    """Knows which instances are being snapshotted, and can stop that."""

    def __init__(self) -> None:
        self._running: list[tuple[str, Cancellation]] = []
        self._over: exception.Cancelled | None = None

    @contextlib.contextmanager
    def of(self, instance: str) -> Iterator[Cancellation]:
        """A snapshot of an instance, for as long as the context lasts.

        There may be a second one, until the lock of the domain refuses it.

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
        :param timeout: in seconds, after which they are waited for no more
        """
        self._end(
            [each for each in self._running if each[0] == instance],
            exception.Cancelled(reason=reason),
            timeout,
        )

    def end_all(self, reason: str, timeout: float) -> None:
        """The same, of all instances; nor does any begin from now on."""
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
        deadline = time.monotonic() + timeout
        while left := [each for each in ending if each in self._running]:
            if time.monotonic() > deadline:
                for instance, _cancellation in left:
                    LOG.error(
                        'The snapshot has not given the guest back within '
                        '%s s',
                        timeout,
                        instance_uuid=instance,
                    )
                return
            time.sleep(POLL_INTERVAL)
