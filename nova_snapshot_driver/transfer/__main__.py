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
import traceback
from typing import IO
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import reason
from nova_snapshot_driver.transfer import confined
from nova_snapshot_driver.transfer.jobs.job import KINDS
from nova_snapshot_driver.transfer.nbd.bounds import Bounds

#: Modules, by the kind of the job that they do. One of them is imported, and
#: while the job is waited for.
JOBS = {
    'extract': 'nova_snapshot_driver.transfer.jobs.extract',
    'flatten': 'nova_snapshot_driver.transfer.jobs.flatten',
    'hash': 'nova_snapshot_driver.transfer.jobs.hash',
    'increment': 'nova_snapshot_driver.transfer.jobs.increment',
    'restore': 'nova_snapshot_driver.transfer.jobs.restore',
    'save': 'nova_snapshot_driver.transfer.jobs.save',
    'stream': 'nova_snapshot_driver.transfer.jobs.stream',
    'update': 'nova_snapshot_driver.transfer.jobs.update',
    'upload': 'nova_snapshot_driver.transfer.jobs.upload',
    'verify': 'nova_snapshot_driver.transfer.jobs.verify',
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
    # In bytes, whatever encoding the environment asks for.
    sys.stdout.buffer.write(json.dumps(message).encode() + b'\n')
    sys.stdout.buffer.flush()


def listen(standard_input: IO[bytes], lines: queue.Queue[bytes]) -> None:
    """Take what the parent says.

    When the parent is gone, or gave the job up, the input ends: so does this
    process then, with all children.
    """
    for line in standard_input:
        lines.put(line)
    os.killpg(0, signal.SIGKILL)


def yield_to_others() -> None:
    """Have the niceness of this process count for others as well.

    A kernel with autogroups divides the processors among sessions first, by
    the niceness of each session; this process leads one.
    Source: sched(7), "The autogroup feature"
    """
    # The kernel may have no autogroups; and it refuses a second change that
    # soon follows the first, unless root asks for it.
    with contextlib.suppress(OSError):
        pathlib.Path('/proc/self/autogroup').write_text(str(os.nice(0)))


def main(kind: str) -> int:
    # systemd asks all processes of nova-compute to end, which waits for its
    # snapshots itself: the end of the input is what counts. Children inherit
    # the disposition.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Where SIGCHLD is ignored, every child seems to have succeeded.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Yield before the rights are given up: the file of the autogroup belongs
    # to root afterwards.
    yield_to_others()
    confined.at_the_start()
    module = importlib.import_module(JOBS[kind])
    standard_input = open(STDIN, 'rb', closefd=False)  # noqa: SIM115 (kept)
    line = standard_input.readline()
    if not line:
        # The job is not wanted any more.
        return 1
    message = json.loads(line)
    job = KINDS[kind].from_dict(message['job'])
    bounds = Bounds(**message['bounds'])
    # Before there is another thread, which would not be held to it.
    confined.to(job)
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(
        target=listen, args=(standard_input, lines), daemon=True
    ).start()
    try:
        result = module.run(job, bounds, Parent(lines))
    except exception.SnapshotError as error:
        send({'error': error.to_dict()})
        return 1
    except Exception as error:
        # The parent logs all of it; the last line is what its user reads.
        traceback.print_exc()
        print(reason.named(error), file=sys.stderr)
        return 1
    send({'result': result})
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
