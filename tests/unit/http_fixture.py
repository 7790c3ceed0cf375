# SPDX-License-Identifier: Apache-2.0
"""A server on loopback that serves while a test lasts."""

from __future__ import annotations

import http.server
import threading

import fixtures


class HttpFixture(fixtures.Fixture):
    """Serves whatever a subclass makes of each request.

    :ivar url: its origin
    """

    def _setUp(self) -> None:
        fixture = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def _serve(self) -> None:
                fixture.serve(self)

            do_GET = do_PUT = do_PATCH = do_POST = do_DELETE = _serve

            def log_message(self, *_message: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        self.url = f'http://127.0.0.1:{server.server_address[1]}'

    def serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        raise NotImplementedError
