# SPDX-License-Identifier: Apache-2.0
"""A service of the cloud, as a test can stop and kill it."""

import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from lab.bounded import wait_until
from lab.cloud.log import ServiceLog
from lab.cloud.settings import ADDRESS
from lab.daemon import Daemon
from lab.errors import LabError
from lab.errors import LabTimeout

_READY_TIMEOUT = 120.0
_STOP_TIMEOUT = 15.0

_SERVER_ERROR = 500

#: A function that tells from the log since the start whether a service is
#: ready.
Ready = Callable[[ServiceLog], bool]

# The shell opens the log to append: a test that restarts the service wants
# to read what it wrote before.
_APPEND = 'log=$1; shift; exec "$@" >>"$log" 2>&1'


class Service:
    """A process that runs on when the one that started it ends.

    :param directory: of the cloud
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        argv: Sequence[str | Path],
        environment: Mapping[str, str],
        ready: Ready,
    ) -> None:
        self.name = name
        self._run = directory / 'run'
        self._log = directory / 'log' / f'{name}.log'
        self._daemon = Daemon(name, self._run)
        self._argv = argv
        self._environment = environment
        self._ready = ready

    @property
    def running(self) -> bool:
        return self._daemon.running

    @property
    def pid(self) -> int:
        """The process id of the service.

        :raises LabError: it does not run
        """
        if not self.running:
            raise LabError(f'{self.name} does not run')
        return int((self._run / f'{self.name}.lock').read_text())

    def log(self) -> ServiceLog:
        """The log of the service from now on."""
        return ServiceLog(self._log)

    def start(self) -> None:
        """Start it unless it runs, and wait until it is ready.

        :raises LabError: it does not come up; the message has the end of its
            log
        """
        if self.running:
            return
        for directory in (self._run, self._log.parent):
            directory.mkdir(parents=True, exist_ok=True)
        log = self.log()
        self._daemon.start(
            ['sh', '-c', _APPEND, self.name, self._log, *self._argv],
            self._environment,
        )

        def ready_or_dead() -> bool:
            return self._ready(log) or not self.running

        try:
            wait_until(
                ready_or_dead,
                f'{self.name} to come up',
                _READY_TIMEOUT,
                interval=0.2,
            )
        except LabTimeout as error:
            self.kill()
            raise LabTimeout(f'{error}; {self._end(log)}') from error
        if not self.running:
            raise LabError(f'{self.name} died; {self._end(log)}')

    def stop(self) -> None:
        """Ask it to end; kill it if it does not."""
        self._daemon.stop(_STOP_TIMEOUT)

    def restart(self) -> None:
        """Kill it, which is faster than asking, and start it."""
        self.kill()
        self.start()

    def kill(self) -> None:
        """Kill it and its children, as a crash would."""
        self._daemon.kill()

    def _end(self, log: ServiceLog) -> str:
        return f'its log, {log.path}, ends with:\n{log.tail()}'


def answers(url: str) -> Ready:
    """Ready once a request to a URL is answered."""

    def ready(log: ServiceLog) -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except urllib.error.HTTPError as error:
            # Any answer but a server error will do: Glance answers 300, for
            # one.
            return error.code < _SERVER_ERROR
        except OSError:
            return False

    return ready


def listens(port: int) -> Ready:
    """Ready once the port accepts a connection."""

    def ready(log: ServiceLog) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection((ADDRESS, port), timeout=5).close()
            return True
        return False

    return ready


def has_logged(text: str) -> Ready:
    """Ready once the log has a text."""
    return lambda log: text in log.text
