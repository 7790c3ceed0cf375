# SPDX-License-Identifier: Apache-2.0
"""A QEMU that falls silent while others read what it exports."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.hypervisor.guest import Guest

#: How often QEMU is asked whether it is there, in seconds.
INTERVAL = 5.0

#: How long its last answer is waited for, in seconds.
LAST_ANSWER = 0.5


@contextlib.contextmanager
def heard(guest: Guest, cancellation: Cancellation) -> Iterator[None]:
    """A QEMU that answers nothing any more stops what waits for its data.

    Whoever reads an export waits for every byte of it. A QEMU that is asked
    for its job has ``qemu_timeout`` to answer.
    """
    over = threading.Event()

    def listen() -> None:
        while not over.wait(INTERVAL):
            try:
                guest.jobs.is_busy()
            except exception.HypervisorSilent as error:
                if not over.is_set():
                    cancellation.stop(error)
                return
            except exception.SnapshotError:
                # An answer, too. Whoever reads meets what it means.
                continue

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        # The last answer may never come.
        thread.join(LAST_ANSWER)
