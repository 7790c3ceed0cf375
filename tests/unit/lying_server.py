# SPDX-License-Identifier: Apache-2.0
"""A server on loopback that answers whatever a test wants it to."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable
from collections.abc import Iterator

from tests.unit.http_fixture import HttpFixture

#: The bytes of a lie without an end, after which the server gives up. Those
#: that lie in sockets are far fewer.
MOST = 32 << 20

#: The seconds of the same, for one that drips.
LONGEST = 20


def redirection(status: int, location: str) -> bytes:
    """An answer that sends the client elsewhere."""
    return (
        f'HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\n'
        'Content-Length: 0\r\nConnection: close\r\n\r\n'
    ).encode()


def document(text: str, more: str = '') -> bytes:
    """An answer in JSON.

    :param more: lines of its header
    """
    return (
        f'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{more}'
        f'Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}'
    ).encode()


class LyingServer(HttpFixture):
    """Answers each request with the blocks that ``answer`` makes.

    :ivar answer: called with the method and the path of a request
    :ivar requests: those that came: method, path and headers
    :ivar sent: the bytes of the last answer that a client has taken, or that
        lie in sockets
    :ivar given_up: a client has taken all that it got for too long
    """

    def __init__(self) -> None:
        super().__init__()
        self.answer: Callable[[str, str], Iterator[bytes]] = (
            lambda _method, _path: iter([document('{}')])
        )
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.sent = 0
        self.given_up = threading.Event()
        self.pause: float = 0

    def _setUp(self) -> None:
        super()._setUp()
        self.ended = threading.Event()
        self.addCleanup(self.ended.set)

    def serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        self.requests.append(
            (handler.command, handler.path, dict(handler.headers.items()))
        )
        _read_body(handler)
        handler.close_connection = True
        self.sent = 0
        waited = 0.0
        try:
            for block in self.answer(handler.command, handler.path):
                handler.wfile.write(block)
                self.sent += len(block)
                waited += self.pause
                if self.sent > MOST or waited > LONGEST:
                    self.given_up.set()
                    return
                if self.pause and self.ended.wait(self.pause):
                    return
        except OSError:
            # The client has gone.
            return


def _read_body(handler: http.server.BaseHTTPRequestHandler) -> None:
    if 'Transfer-Encoding' not in handler.headers:
        handler.rfile.read(int(handler.headers.get('Content-Length', 0)))
        return
    while size := int(handler.rfile.readline(), 16):
        handler.rfile.read(size + len('\r\n'))
    handler.rfile.readline()
