# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of Cinder that breaks requests for snapshots."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Self

_UPSTREAM_TIMEOUT = 120.0

# They belong to one connection, not to the message.
_HOP_BY_HOP = frozenset(('connection', 'keep-alive', 'transfer-encoding'))

#: What happens to the request for a snapshot with that number, from 1 on:
#: returns a status to answer with, or None to let it pass.
Fault = Callable[[int], int | None]


class CinderProxy:
    """Listens on loopback as long as the ``with`` lasts.

    :param upstream: the URL of Cinder, without a version
    """

    def __init__(self, upstream: str) -> None:
        self._server = _Server(upstream)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={'poll_interval': 0.05},
            name='cinder-proxy',
            daemon=True,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint_template(self) -> str:
        """What ``[cinder] endpoint_template`` is to be."""
        host, port = self._server.server_address[:2]
        return f'http://{host!s}:{port}/v3/%(project_id)s'

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


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        self.upstream = urllib.parse.urlsplit(upstream)
        self.before: Fault = lambda _number: None
        self.after: Fault = lambda _number: None
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()
        self.lock = threading.Lock()
        super().__init__(('127.0.0.1', 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has given up is nobody's error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server: _Server

    def _serve(self) -> None:
        length = int(self.headers.get('Content-Length', 0))
        body = self.rfile.read(length)
        self.server.answers.wait()
        is_snapshot = self.command == 'POST' and self.path.endswith(
            '/snapshots'
        )
        number = 0
        if is_snapshot:
            with self.server.lock:
                self.server.asked += 1
                number = self.server.asked
            status = self.server.before(number)
            if status is not None:
                self._answer(status, {}, b'')
                return
        answer = self._forward(body)
        if is_snapshot:
            status = self.server.after(number)
            if status is not None:
                self._answer(status, {}, b'')
                return
        self._answer(*answer)

    do_GET = do_POST = do_PUT = do_DELETE = _serve

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(
            self.server.upstream.netloc, timeout=_UPSTREAM_TIMEOUT
        )
        try:
            connection.request(
                self.command,
                self.path,
                body,
                {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in _HOP_BY_HOP | {'host'}
                },
            )
            response = connection.getresponse()
            return (
                response.status,
                dict(response.getheaders()),
                response.read(),
            )
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP | {'content-length'}:
                self.send_header(name, value)
        if status != 204:
            self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_message: object) -> None:
        pass
