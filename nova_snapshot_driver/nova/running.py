# SPDX-License-Identifier: Apache-2.0
"""The snapshots that a nova-compute is taking."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver.cancellation import Cancellation

LOG = logging.getLogger(__name__)

POLL_INTERVAL = 0.1


class RunningSnapshots:
    """Knows which instances are being snapshotted, and can stop that."""

    def __init__(self) -> None:
        self._running: list[tuple[str, Cancellation]] = []

    @contextlib.contextmanager
    def of(self, instance: str) -> Iterator[Cancellation]:
        """A snapshot of an instance, for as long as the context lasts.

        There may be a second one, until the lock of the domain refuses it.

        :param instance: its UUID
        """
        snapshot = (instance, Cancellation())
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
        ending = [each for each in self._running if each[0] == instance]
        for _instance, cancellation in ending:
            LOG.info(
                'The snapshot is cancelled: %s', reason, instance_uuid=instance
            )
            cancellation.request(reason)
        deadline = time.monotonic() + timeout
        while any(each in self._running for each in ending):
            if time.monotonic() > deadline:
                LOG.error(
                    'The snapshot has not given the guest back within %s s',
                    timeout,
                    instance_uuid=instance,
                )
                return
            time.sleep(POLL_INTERVAL)
