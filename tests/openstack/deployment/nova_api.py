# SPDX-License-Identifier: Apache-2.0
"""nova-api, which is to answer all the time."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from lab.bounded import wait_until
from lab.cloud.cloud import Cloud
from lab.errors import LabError

RELOAD_TIMEOUT = 60

#: Seconds. A worker that loads Nova keeps a request waiting.
ANSWER_TIMEOUT = 60
POLL_INTERVAL = 0.2


@dataclasses.dataclass
class Watch:
    """The answers of nova-api, and its failures to give one."""

    answers: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)


class NovaApi:
    """nova-api, as the service manager of a controller has it."""

    def __init__(self, cloud: Cloud) -> None:
        self._service = cloud.services['nova-api']
        self._url = f'{cloud.nova_url}/'

    @property
    def running(self) -> bool:
        return self._service.running

    def start(self) -> None:
        self._service.start()

    def reload(self) -> None:
        """Replace the workers, while their master holds the port.

        :raises LabError: the new ones do not come up, nor does nova-api then
        """
        log = self._service.log()
        master = self._service.pid
        before = _children(master)
        os.kill(master, signal.SIGHUP)
        wait_until(
            lambda: not self.running or not before & _children(master),
            'the workers of nova-api to be replaced',
            RELOAD_TIMEOUT,
        )
        wait_until(
            lambda: not self.running or self._answers(),
            'the new workers of nova-api to answer',
            RELOAD_TIMEOUT,
        )
        if not self.running:
            raise LabError(f'nova-api is down; its log ends:\n{log.tail()}')

    @contextlib.contextmanager
    def watched(self) -> Iterator[Watch]:
        """Ask nova-api all the time."""
        watch = Watch()
        ended = threading.Event()

        def ask() -> None:
            while not ended.wait(POLL_INTERVAL):
                try:
                    self._ask()
                    watch.answers += 1
                except ConnectionResetError:
                    # A worker that ends may have accepted a connection.
                    continue
                except OSError as error:
                    watch.failures.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield watch
        finally:
            ended.set()
            thread.join(ANSWER_TIMEOUT)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            self._ask()
            return True
        return False

    def _ask(self) -> None:
        """
        :raises OSError: no answer, or an error
        """
        with urllib.request.urlopen(self._url, timeout=ANSWER_TIMEOUT):
            pass


def _children(process: int) -> set[str]:
    path = Path(f'/proc/{process}/task/{process}/children')
    with contextlib.suppress(FileNotFoundError):
        return set(path.read_text().split())
    return set()
