# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of Glance that breaks uploads."""

import dataclasses
import http.client
import re
import threading
import urllib.parse
from collections.abc import Iterator
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Self

_BLOCK = 64 * 1024
_UPSTREAM_TIMEOUT = 120.0
_UPLOAD = re.compile(r'/v2/images/[^/]+/file$')

# They belong to one connection, not to the message.
_HOP_BY_HOP = frozenset(('connection', 'keep-alive', 'transfer-encoding'))


@dataclasses.dataclass(frozen=True)
class Cut:
    """The connection breaks, on both sides."""

    #: bytes of the body that pass before
    after: int


@dataclasses.dataclass(frozen=True)
class Flip:
    """A bit of the body changes on its way."""

    #: of the byte in the body
    offset: int


@dataclasses.dataclass(frozen=True)
class Answer:
    """The upload is read and refused; Glance does not see it."""

    #: such as 403, 413, 503
    status: int


@dataclasses.dataclass(frozen=True)
class Stall:
    """Nothing is read or sent any more until :meth:`FaultyProxy.heal`.

    A client that gives up can't be noticed behind what it has sent before,
    so Glance goes on waiting too.
    """

    #: bytes of the body that pass before
    after: int = 0


@dataclasses.dataclass(frozen=True)
class Slow:
    """The body trickles, until :meth:`FaultyProxy.heal`."""

    #: bytes a second
    rate: int


Fault = Cut | Flip | Answer | Stall | Slow


@dataclasses.dataclass
class Upload:
    """An attempt to upload."""

    #: what was done to it
    fault: Fault | None
    #: of its request
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    #: the bytes of the body that came
    size: int = 0
    #: the status of the answer, None if there was none
    status: int | None = None


class FaultyProxy:
    """Listens on loopback as long as the ``with`` lasts.

    Only uploads of image data are broken and counted, all other requests
    pass.

    :param upstream: the URL of Glance
    """

    def __init__(self, upstream: str) -> None:
        self._server = _Server(upstream)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
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

    @property
    def uploads(self) -> list[Upload]:
        """All attempts so far, the oldest first."""
        return self._server.uploads

    def inject(self, fault: Fault, times: int | None = None) -> None:
        """Break the next uploads.

        :param times: how many of them; None: all
        """
        self._server.plan(fault, times)

    def heal(self) -> None:
        """Let uploads pass again, break those that stall.

        One that is slow goes on at full speed.
        """
        self._server.plan(None, None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A client that stalls must not hold up the end of the test.
    block_on_close = False

    def __init__(self, upstream: str) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        parts = urllib.parse.urlsplit(upstream)
        self.upstream = (parts.hostname or '', parts.port)
        self.healed = threading.Event()
        self.uploads: list[Upload] = []
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._times: int | None = None

    def plan(self, fault: Fault | None, times: int | None) -> None:
        with self._lock:
            self._fault, self._times = fault, times
            if fault is None:
                self.healed.set()
            else:
                self.healed.clear()

    def begin_upload(self, headers: Mapping[str, str]) -> Upload:
        """Note an attempt, with the fault that is its turn."""
        with self._lock:
            fault = self._fault
            if fault is not None and self._times is not None:
                if self._times == 0:
                    fault = None
                else:
                    self._times -= 1
            upload = Upload(fault, headers)
            self.uploads.append(upload)
            return upload


class _Cut(Exception):
    """The body of the request ends before its end."""


# The client is gone, or Glance is: then the other side has to see it too.
_BROKEN = (_Cut, OSError, http.client.HTTPException)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server: _Server

    def do_GET(self) -> None:
        try:
            self._pass(self._body())
        except _BROKEN:
            self.close_connection = True

    do_DELETE = do_GET
    do_HEAD = do_GET
    do_PATCH = do_GET
    do_POST = do_GET

    def do_PUT(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if _UPLOAD.search(path):
            self._upload(self.server.begin_upload(dict(self.headers)))
        else:
            self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """The test looks at the uploads instead."""

    def _upload(self, upload: Upload) -> None:
        body = self._faulty(upload)
        try:
            if isinstance(upload.fault, Answer):
                # To the end: a client that still sends when the connection
                # closes sees a broken pipe instead of the answer.
                for _ in body:
                    pass
                upload.status = upload.fault.status
                self.send_response(upload.status)
                self.send_header('Content-Length', '0')
                self.end_headers()
            else:
                upload.status = self._pass(body)
        except _BROKEN:
            self.close_connection = True

    def _pass(self, body: Iterator[bytes]) -> int:
        """Hand the request to Glance and the answer back."""
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
            return self._answer(upstream.getresponse())
        finally:
            upstream.close()

    def _answer(self, response: http.client.HTTPResponse) -> int:
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = response.length
        if length is None:
            # Then the end of the connection is the end of the body.
            self.send_header('Connection', 'close')
            self.close_connection = True
        self.end_headers()
        while block := response.read(_BLOCK):
            self.wfile.write(block)
        return response.status

    @property
    def _chunked(self) -> bool:
        return 'chunked' in self.headers.get('Transfer-Encoding', '')

    def _body(self) -> Iterator[bytes]:
        """The blocks of the request's body."""
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
            raise _Cut
        return int(line.split(b';')[0], 16)

    def _read(self, size: int) -> Iterator[bytes]:
        while size > 0:
            block = self.rfile.read(min(size, _BLOCK))
            if not block:
                raise _Cut
            size -= len(block)
            yield block

    def _faulty(self, upload: Upload) -> Iterator[bytes]:
        """The body of an upload, with its fault."""
        for block in self._body():
            start = upload.size
            upload.size += len(block)
            match upload.fault:
                case Cut(after) | Stall(after) if upload.size > after:
                    yield block[: after - start]
                    if isinstance(upload.fault, Stall):
                        self.server.healed.wait()
                    raise _Cut
                case Slow(rate):
                    yield block
                    self.server.healed.wait(len(block) / rate)
                case Flip(offset) if start <= offset < upload.size:
                    flipped = bytearray(block)
                    flipped[offset - start] ^= 1
                    yield bytes(flipped)
                case _:
                    yield block
