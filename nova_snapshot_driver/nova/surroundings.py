# SPDX-License-Identifier: Apache-2.0
"""What nova-compute lends to the driver."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import nova.conf
from nova.compute import utils as compute_utils
from nova.privsep import path as privileged

from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.metrics import Metrics
from nova_snapshot_driver.metrics import Tally
from nova_snapshot_driver.surroundings import Surroundings

CONF = nova.conf.CONF

#: How often a slot that is taken is asked for, in seconds.
POLL_INTERVAL = 0.5


class ComputeSurroundings(Surroundings):
    """Those of a driver in nova-compute.

    :param metrics: of all its snapshots
    :param tally: of the one that is being taken, if there is one
    """

    def __init__(
        self, metrics: Metrics | None = None, tally: Tally | None = None
    ) -> None:
        self._metrics = metrics or Metrics()
        self._tally = tally or Tally()

    @contextlib.contextmanager
    def disk_operation(self, cancellation: Cancellation) -> Iterator[None]:
        """One of ``[compute] max_concurrent_disk_ops``.

        Unlike upstream's it does not last until the image is uploaded: that
        is a matter of the network.
        """
        slots = compute_utils.disk_ops_semaphore
        if isinstance(slots, compute_utils.UnlimitedSemaphore):
            yield
            return
        timeout = CONF.snapshot.extract_timeout
        deadline = time.monotonic() + timeout
        while not slots.acquire(timeout=POLL_INTERVAL):
            cancellation.check()
            if time.monotonic() > deadline:
                raise exception.HostBusy(
                    seconds=timeout, option='extract_timeout'
                )
        try:
            yield
        finally:
            slots.release()

    def entrust(self, directory: str, uid: int) -> None:
        if os.geteuid() != 0:
            # It stays ours by its group.
            os.chmod(directory, 0o770)  # noqa: S103
        privileged.chown(directory, uid=uid, gid=os.getegid())

    def claim(self, path: str) -> None:
        if os.stat(path).st_uid != os.geteuid():
            privileged.chown(path, uid=os.geteuid())

    def planned(self, path: str) -> None:
        self._tally.path = path

    def healed(self) -> None:
        self._metrics.healed()
