# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of Cinder that breaks requests for snapshots."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lab.forwarding import ForwardingHandler
from lab.forwarding import ForwardingServer
from lab.forwarding import Proxy

#: A fault for the request for a snapshot with that number, from 1 on: returns
#: a status to answer with, or None to let it pass.
Fault = Callable[[int], int | None]


class _Server(ForwardingServer):
    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, _Handler)
        self.before: Fault = lambda _number: None
        self.after: Fault = lambda _number: None
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()
        self.lock = threading.Lock()

    def number_of_next(self) -> int:
        with self.lock:
            self.asked += 1
            return self.asked


class _Handler(ForwardingHandler):
    server: _Server

    def serve(self) -> None:
        body = iter(list(self.body()))
        self.server.answers.wait()
        if self.command != 'POST' or not self.path.endswith('/snapshots'):
            self.forward(body)
            return
        number = self.server.number_of_next()
        status = self.server.before(number)
        if status is not None:
            self.refuse(status)
            return
        with self.forwarded(body) as response:
            status = self.server.after(number)
            if status is not None:
                self.refuse(status)
            else:
                self.answer(response)


class CinderProxy(Proxy[_Server]):
    """Passes all other requests.

    :param upstream: the URL of Cinder, without a version
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(_Server(upstream))

    @property
    def endpoint_template(self) -> str:
        """The value of ``[cinder] endpoint_template``."""
        return f'{self.url}/v3/%(project_id)s'

    def heal(self) -> None:
        """Let everything pass, also what is waiting."""
        self._server.before = lambda _number: None
        self._server.after = lambda _number: None
        self._server.asked = 0
        self._server.answers.set()

    def space(self, seconds: float) -> None:
        """Have Cinder hear of each snapshot so much later than of the last."""
        lock = threading.Lock()
        passed = [0.0]

        def wait(_number: int) -> None:
            with lock:
                now = time.monotonic()
                passed[0] = max(now, passed[0] + seconds)
                pause = passed[0] - now
            time.sleep(pause)

        self.heal()
        self._server.before = wait

    def answer(self, number: int, status: int) -> None:
        """Refuse one request for a snapshot, which Cinder does not see."""
        self.heal()
        self._server.before = lambda n: status if n == number else None

    def lose_answer(self, number: int, status: int = 504) -> None:
        """Let one pass, and answer otherwise than Cinder did."""
        self.heal()
        self._server.after = lambda n: status if n == number else None

    def stop_answering(self) -> None:
        """Keep all requests waiting from now on, of whatever kind."""
        self._server.answers.clear()

    @property
    def asked(self) -> int:
        """How many snapshots were asked for since it was healed."""
        return self._server.asked
