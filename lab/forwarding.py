# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of a service, for those that break what passes."""

import contextlib
import http.client
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Generic
from typing import Self
from typing import TypeVar

BLOCK = 64 * 1024
_UPSTREAM_TIMEOUT = 120.0

# Headers that belong to one connection, not to the message.
_HOP_BY_HOP = frozenset(('connection', 'keep-alive', 'transfer-encoding'))


class Broken(Exception):
    """The body of a request ends before its end."""


# Errors for which the other side has to see its connection break, too.
_BROKEN = (Broken, OSError, http.client.HTTPException)


class ForwardingServer(ThreadingHTTPServer):
    """Listens on loopback.

    :param upstream: the URL of the service; its path is not looked at
    """

    daemon_threads = True
    # A server with many volumes has as many requests made at the same moment:
    # the kernel resets connections beyond the usual five that wait.
    request_queue_size = 128
    # A client that stalls must not hold up the end of the test.
    block_on_close = False

    def __init__(
        self, upstream: str, handler: type[BaseHTTPRequestHandler]
    ) -> None:
        super().__init__(('127.0.0.1', 0), handler)
        parts = urllib.parse.urlsplit(upstream)
        self.upstream = (parts.hostname or '', parts.port)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that has given up."""


Server = TypeVar('Server', bound=ForwardingServer)


class Proxy(Generic[Server]):
    """Serves as long as the ``with`` lasts."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever,
            kwargs={'poll_interval': 0.05},
            name='proxy',
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
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f'http://{host!s}:{port}'

    def heal(self) -> None:
        """Let everything pass."""
        raise NotImplementedError


class ForwardingHandler(BaseHTTPRequestHandler):
    """Hands requests on, and answers back."""

    protocol_version = 'HTTP/1.1'
    server: ForwardingServer

    def serve(self) -> None:
        """Handle a request."""
        self.forward(self.body())

    def _serve(self) -> None:
        try:
            self.serve()
        except _BROKEN:
            self.close_connection = True

    do_DELETE = _serve
    do_GET = _serve
    do_HEAD = _serve
    do_PATCH = _serve
    do_POST = _serve
    do_PUT = _serve

    def log_message(self, format: str, *args: object) -> None:
        """The test looks at the requests instead."""

    def forward(self, body: Iterator[bytes]) -> int:
        """Hand the request on and the answer back, of which it is a status."""
        with self.forwarded(body) as response:
            self.answer(response)
        return response.status

    @contextlib.contextmanager
    def forwarded(
        self, body: Iterator[bytes]
    ) -> Iterator[http.client.HTTPResponse]:
        """Hand the request on; inside there is an answer."""
        upstream = http.client.HTTPConnection(
            *self.server.upstream, timeout=_UPSTREAM_TIMEOUT
        )
        try:
            upstream.putrequest(
                self.command,
                self.path,
                skip_host=True,
                skip_accept_encoding=True,
            )
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    upstream.putheader(name, value)
            chunked = self._chunked
            if chunked:
                upstream.putheader('Transfer-Encoding', 'chunked')
            upstream.endheaders(body, encode_chunked=chunked)
            yield upstream.getresponse()
        finally:
            upstream.close()

    def answer(self, response: http.client.HTTPResponse) -> None:
        """Hand an answer back."""
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = response.length
        if length is None:
            # Close the connection: its end is the end of the body.
            self.send_header('Connection', 'close')
            self.close_connection = True
        self.end_headers()
        while block := response.read(BLOCK):
            self.wfile.write(block)

    def refuse(self, status: int) -> None:
        """Answer otherwise than the service does."""
        self.send_response(status)
        self.send_header('Content-Length', '0')
        self.end_headers()

    @property
    def _chunked(self) -> bool:
        return 'chunked' in self.headers.get('Transfer-Encoding', '')

    def body(self) -> Iterator[bytes]:
        """The blocks of the request's body.

        :raises Broken: it ends before its end
        """
        if not self._chunked:
            yield from self._read(int(self.headers.get('Content-Length', 0)))
            return
        while size := self._chunk_size():
            yield from self._read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _chunk_size(self) -> int:
        line = self.rfile.readline()
        if not line:
            raise Broken
        return int(line.split(b';')[0], 16)

    def _read(self, size: int) -> Iterator[bytes]:
        while size > 0:
            block = self.rfile.read(min(size, BLOCK))
            if not block:
                raise Broken
            size -= len(block)
            yield block
