# SPDX-License-Identifier: Apache-2.0
"""A background process that outlives the one that started it."""

import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from lab.bounded import wait_until
from lab.errors import LabError
from lab.errors import LabTimeout

_KILL_TIMEOUT = 10.0


class Daemon:
    """A daemon with its lock and its log in *directory*.

    It inherits a lock on a file that has its process id: whoever can't take
    the lock knows that it runs and that the number is still its own.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self._lock = directory / f'{name}.lock'
        self._log = directory / f'{name}.log'
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        argv: Sequence[str | Path],
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
    ) -> None:
        """Start it, with a new log and a session of its own.

        :param environment: variables to add to those of this process
        :param descriptors: open files that it inherits
        :raises LabError: it is running already
        """
        with self._lock.open('a+') as lock, self._log.open('wb') as log:
            if not _acquire(lock.fileno(), fcntl.LOCK_EX):
                raise LabError(f'{self.name} is running already')
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=os.environ | dict(environment),
                pass_fds=(lock.fileno(), *descriptors),
                start_new_session=True,
            )
            lock.truncate(0)
            lock.write(str(self._process.pid))

    @property
    def running(self) -> bool:
        """Whether one of its processes is alive."""
        if not self._lock.exists():
            return False
        with self._lock.open() as lock:
            return not _acquire(lock.fileno(), fcntl.LOCK_SH)

    def stop(self, timeout: float) -> None:
        """Ask it to end, and kill it after *timeout* seconds."""
        self._signal(signal.SIGTERM)
        try:
            self._wait(timeout)
        except LabTimeout:
            self.kill()

    def kill(self) -> None:
        """Kill it and its children.

        :raises LabTimeout: a process hangs in the kernel
        """
        self._signal(signal.SIGKILL)
        self._wait(_KILL_TIMEOUT)

    def log_tail(self) -> str:
        """The last lines of what it wrote."""
        if not self._log.exists():
            return ''
        return self._log.read_text(errors='replace')[-3000:]

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(self._lock.read_text()), number)

    def _wait(self, timeout: float) -> None:
        wait_until(
            lambda: not self.running, f'the end of {self.name}', timeout
        )
        if self._process is not None:
            # A process closes its files shortly before it ends.
            self._process.wait(_KILL_TIMEOUT)
            self._process = None


def _acquire(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
