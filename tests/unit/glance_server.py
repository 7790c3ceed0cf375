# SPDX-License-Identifier: Apache-2.0
"""A Glance that is reached through a socket."""

from __future__ import annotations

import http.server
import io
import json
from collections.abc import Callable
from collections.abc import Iterator

from tests.unit.fake_glance import Broken
from tests.unit.fake_glance import FakeGlance
from tests.unit.fake_glance import Request
from tests.unit.http_fixture import HttpFixture


class GlanceServer(HttpFixture):
    """Serves a :class:`FakeGlance`.

    :ivar at_upload: called with the number of bytes so far, for each chunk
        of an upload; breaks the connection if it raises ``Broken``
    """

    def _setUp(self) -> None:
        self.glance = FakeGlance()
        self.at_upload: Callable[[int], object] = lambda _size: None
        super()._setUp()

    def serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        try:
            answer = self.glance.answer(
                Request(
                    handler.command,
                    handler.path,
                    {k.lower(): v for k, v in handler.headers.items()},
                    self._body(handler),
                )
            )
        except Broken:
            handler.close_connection = True
            return
        body = b''
        handler.send_response(answer.status)
        if answer.document is not None:
            handler.send_header('Content-Type', 'application/json')
            body = json.dumps(answer.document).encode()
        if answer.status != 204:
            handler.send_header('Content-Length', str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _body(self, handler: http.server.BaseHTTPRequestHandler) -> bytes:
        if 'Transfer-Encoding' not in handler.headers:
            return handler.rfile.read(
                int(handler.headers.get('Content-Length', 0))
            )
        body = bytearray()
        for chunk in _chunks(handler.rfile):
            body += chunk
            self.at_upload(len(body))
        return bytes(body)


def _chunks(file: io.BufferedIOBase) -> Iterator[bytes]:
    """The chunks of a body without trailers; RFC 9112, section 7.1."""
    while line := file.readline():
        size = int(line, 16)
        chunk = file.read(size + len('\r\n'))
        if len(chunk) < size + len('\r\n'):
            break
        if not size:
            return
        yield chunk[:size]
    raise Broken
