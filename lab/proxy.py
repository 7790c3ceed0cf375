# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of Glance that breaks uploads."""

import dataclasses
import re
import threading
import urllib.parse
from collections.abc import Iterator
from collections.abc import Mapping

from lab.forwarding import Broken
from lab.forwarding import ForwardingHandler
from lab.forwarding import ForwardingServer
from lab.forwarding import Proxy

_UPLOAD = re.compile(r'/v2/images/[^/]+/file$')


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

    #: the status, such as 403, 413, 503
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

    #: the fault that was injected
    fault: Fault | None
    #: of its request
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    #: the bytes of the body that came
    size: int = 0
    #: the status of the answer, None if there was none
    status: int | None = None


class _Server(ForwardingServer):
    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, _Handler)
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


class _Handler(ForwardingHandler):
    server: _Server

    def serve(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if self.command == 'PUT' and _UPLOAD.search(path):
            self._upload(self.server.begin_upload(dict(self.headers)))
        else:
            super().serve()

    def _upload(self, upload: Upload) -> None:
        body = self._faulty(upload)
        if isinstance(upload.fault, Answer):
            # Read to the end: a client that still sends when the connection
            # closes sees a broken pipe instead of the answer.
            for _ in body:
                pass
            upload.status = upload.fault.status
            self.refuse(upload.status)
        else:
            upload.status = self.forward(body)

    def _faulty(self, upload: Upload) -> Iterator[bytes]:
        """The body of an upload, with its fault."""
        for block in self.body():
            start = upload.size
            upload.size += len(block)
            match upload.fault:
                case Cut(after) | Stall(after) if upload.size > after:
                    yield block[: after - start]
                    if isinstance(upload.fault, Stall):
                        self.server.healed.wait()
                    raise Broken
                case Slow(rate):
                    yield block
                    self.server.healed.wait(len(block) / rate)
                case Flip(offset) if start <= offset < upload.size:
                    flipped = bytearray(block)
                    flipped[offset - start] ^= 1
                    yield bytes(flipped)
                case _:
                    yield block


class FaultyProxy(Proxy[_Server]):
    """Breaks uploads of image data, and counts them; all else passes.

    :param upstream: the URL of Glance
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(_Server(upstream))

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
        """Let uploads pass again, and break those that stall.

        A slow upload goes on at full speed.
        """
        self._server.plan(None, None)
