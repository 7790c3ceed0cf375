# SPDX-License-Identifier: Apache-2.0
"""``python -m nova_snapshot_driver.watchdog``: wait, as a rule for nothing."""

from __future__ import annotations

import json
import signal
import sys
from typing import IO


def main(stream: IO[str]) -> None:
    # Whoever stops the service or the terminal stops the snapshot, which ends
    # this process when it has given the guest back.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    job = stream.readline()
    # Nothing more is said.
    stream.read()
    if not job.endswith('\n'):
        # Nothing was taken yet.
        return
    # What waits beside every snapshot is to be small.
    from nova_snapshot_driver.watchdog import rescue

    rescue.run(**json.loads(job))


if __name__ == '__main__':
    main(sys.stdin)
