# SPDX-License-Identifier: Apache-2.0
"""The data plane's own side: one job, and then the end."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import queue
import signal
import sys
import threading
import time
from typing import Any

from nova_snapshot_driver import exception

#: By the kind of the job. One of them is imported, and while the job is waited
#: for.
JOBS = {
    'extract': 'nova_snapshot_driver.transfer.convert',
    'flatten': 'nova_snapshot_driver.transfer.flatten',
    'save': 'nova_snapshot_driver.transfer.save',
    'stream': 'nova_snapshot_driver.transfer.stream',
    'upload': 'nova_snapshot_driver.transfer.upload',
}

STDIN = 0

#: The least time between two messages of progress, in seconds.
PROGRESS_INTERVAL = 0.2


class Parent:
    """The process that wants the job done."""

    def __init__(self, lines: queue.Queue[bytes]) -> None:
        self._lines = lines
        self._last = 0.0

    def progress(self, done: int, total: int) -> None:
        """Say how far the job is, at a sane rate."""
        now = time.monotonic()
        if done >= total or now - self._last > PROGRESS_INTERVAL:
            self._last = now
            send({'progress': [done, total]})

    def glance_access(self) -> dict[str, Any]:
        """Ask for the way to Glance, with tokens that are valid now.

        :returns: the fields of ``image.GlanceAccess``
        :raises SnapshotError: the parent has no answer
        """
        send({'ask': 'glance_access'})
        match json.loads(self._lines.get()):
            case {'error': error}:
                raise exception.from_dict(error)
            case {'answer': dict(access)}:
                return access
            case other:
                raise ValueError(f'no answer: {other}')


def send(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def listen(lines: queue.Queue[bytes]) -> None:
    """Take what the parent says.

    When the parent is gone, or gave the job up, the input ends: so does this
    process then, with all children.
    """
    with open(STDIN, 'rb', closefd=False) as standard_input:
        for line in standard_input:
            lines.put(line)
    os.killpg(0, signal.SIGKILL)


def yield_to_others() -> None:
    """Have the niceness of this process count for others as well.

    A kernel that divides the processors among sessions at first regards that
    of a session, which this process leads.
    Source: sched(7), "The autogroup feature"
    """
    # There may be no such kernel; and one that was told twice at once by
    # others than root takes it from the first alone.
    with contextlib.suppress(OSError):
        pathlib.Path('/proc/self/autogroup').write_text(str(os.nice(0)))


def main(kind: str) -> int:
    # systemd asks all processes of nova-compute to end, which waits for its
    # snapshots itself: the end of the input is what counts. Children inherit
    # it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=listen, args=(lines,), daemon=True).start()
    yield_to_others()
    module = importlib.import_module(JOBS[kind])
    job = json.loads(lines.get())
    try:
        result = module.run(job, Parent(lines))
    except exception.SnapshotError as error:
        send({'error': error.to_dict()})
        return 1
    send({'result': result})
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
