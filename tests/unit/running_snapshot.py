# SPDX-License-Identifier: Apache-2.0
"""A snapshot in another process, as far as that can be told from here."""

from __future__ import annotations

import subprocess
import sys

import fixtures

#: Holds the lock, reports, and waits until it is cancelled or until its input
#: ends.
PROGRAM = """\
import select
import sys

from nova_snapshot_driver import exception
from nova_snapshot_driver.state import status
from nova_snapshot_driver.state.cancel_request import CancelRequest
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.common.progress import silent

directory, name, uuid, image, is_deaf = sys.argv[1:]
cancellation = Cancellation()
if is_deaf == 'hears':
    cancellation.watch(CancelRequest(directory, uuid).consume)
begin = status.Status(name, uuid, (image,), (), 'mirror')
with (
    Journal(directory).exclusive(uuid, name),
    status.reported(directory, begin, silent) as progress,
):
    progress('upload', 1 << 20, 4 << 20)
    print('runs', flush=True)
    try:
        while not select.select([sys.stdin], [], [], 0.01)[0]:
            cancellation.check()
    except exception.SnapshotError as error:
        print(error.code, flush=True)
"""


class RunningSnapshot(fixtures.Fixture):
    """
    :param hears: that it is to be cancelled
    """

    def __init__(
        self, directory: str, name: str, uuid: str, hears: bool = True
    ) -> None:
        super().__init__()
        self._arguments = [directory, name, uuid, 'an-image']
        self._hears = hears

    def _setUp(self) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, '-c', PROGRAM, *self._arguments),
                'hears' if self._hears else 'deaf',
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.process.__exit__, None, None, None)
        self.addCleanup(self.process.kill)
        assert self.says() == 'runs'

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """Of itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def die(self) -> None:
        self.process.kill()
        self.process.wait()
