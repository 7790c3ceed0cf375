# SPDX-License-Identifier: Apache-2.0
"""``python -m nova_snapshot_driver.recovery``: wait, as a rule for nothing."""

from __future__ import annotations

import json
import signal
import sys
from typing import IO

from nova_snapshot_driver.common import confinement
from nova_snapshot_driver.common.confinement import Capability


def main(stream: IO[str]) -> None:
    # A signal to the service or the terminal reaches the snapshot too, which
    # ends this process when it has given the guest back.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    job = stream.readline()
    # A snapshot that dies says nothing more.
    is_left = bool(stream.read())
    if not job.endswith('\n'):
        # Nothing was taken yet.
        return
    # A process that waits beside every snapshot has to be small.
    from nova_snapshot_driver.recovery import rescue

    rescue.run(**json.loads(job), is_left=is_left)


if __name__ == '__main__':
    # Root needs all of these to give back what is another user's.
    confinement.give_up(keep=tuple(Capability))
    main(sys.stdin)
