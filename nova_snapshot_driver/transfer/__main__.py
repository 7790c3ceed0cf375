# SPDX-License-Identifier: Apache-2.0
"""The data plane's own side: one job, and then the end."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from typing import Any

from nova_snapshot_driver import exception

#: Imported when the job is known: a guest may be waiting for it.
JOBS = {
    'extract': 'nova_snapshot_driver.transfer.convert',
    'upload': 'nova_snapshot_driver.transfer.upload',
}

STDIN = 0

#: The least time between two messages of progress, in seconds.
PROGRESS_INTERVAL = 0.2


class Reporter:
    """Tells the parent how far the job is, at a sane rate."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - self._last > PROGRESS_INTERVAL:
            self._last = now
            send({'progress': [done, total]})


def send(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def die_with_parent() -> None:
    """End, with all children, when the parent is gone or gave the job up."""
    while os.read(STDIN, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> int:
    job = json.loads(read_line())
    threading.Thread(target=die_with_parent, daemon=True).start()
    module = importlib.import_module(JOBS[job.pop('kind')])
    try:
        result = module.run(job, Reporter())
    except exception.SnapshotError as error:
        send({'error': error.to_dict()})
        return 1
    send({'result': result})
    return 0


def read_line() -> bytes:
    """One line of standard input, and not a byte more.

    What comes after it, the end of the input, is for ``die_with_parent``.
    """
    line = bytearray()
    while not line.endswith(b'\n') and (byte := os.read(STDIN, 1)):
        line += byte
    return bytes(line)


if __name__ == '__main__':
    sys.exit(main())
