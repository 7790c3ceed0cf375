# SPDX-License-Identifier: Apache-2.0
"""The data plane without a process: what it would do, at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import subprocess
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import Protocol

from oslo_concurrency import processutils

from nova_snapshot_driver import exception
from nova_snapshot_driver import rbd
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.image import GlanceAccess
from nova_snapshot_driver.progress import Progress
from nova_snapshot_driver.transfer.process import Limits
from nova_snapshot_driver.transfer.process import Sent
from nova_snapshot_driver.view import View
from tests.unit.fake_glance import FakeGlance
from tests.unit.fake_glance import Request

CONTENT = b'the disk at one instant'


class Ceph(Protocol):
    """Who runs the commands of Ceph."""

    def run(self, name: str, arguments: list[str]) -> str: ...


class FakeDataPlane:
    """Stands for ``transfer.process``.

    :ivar at_extract: called when a view is read, and half of the image is
        written; raises what that is to fail with
    :ivar at_upload: the same, before an upload
    :ivar view: what was read last
    :ivar target: what it was extracted to
    :ivar encoding: and how
    :ivar limits: and in which bounds
    :ivar cancellation: by which it is told to stop
    :ivar waiting: the kinds of the jobs for which a process is there
    :ivar accesses: what it was told of Glance when it asked
    """

    def __init__(self, glance: FakeGlance, ceph: Ceph) -> None:
        self._glance = glance
        self._ceph = ceph
        self.at_extract: Callable[[], object] = lambda: None
        self.at_upload: Callable[[], object] = lambda: None
        self.view: View | None = None
        self.target: Layer | None = None
        self.encoding: Encoding | None = None
        self.limits: Limits | None = None
        self.cancellation: Cancellation | None = None
        self.waiting: list[str] = []
        self.accesses: list[GlanceAccess] = []

    def extract(
        self,
        view: View,
        target: Layer,
        encoding: Encoding,
        timeout: int,
        limits: Limits,
        progress: Progress,
        cancellation: Cancellation,
    ) -> None:
        self.target, self.limits = target, limits
        self._read(view, encoding, cancellation, target.path)
        progress('extract', 1, 1)

    def flatten(
        self,
        command: list[str],
        image: str,
        timeout: int,
        limits: Limits,
        progress: Progress,
        cancellation: Cancellation,
    ) -> None:
        self.limits, self.cancellation = limits, cancellation
        progress('flatten', 0, 100)
        self.at_extract()
        cancellation.check()
        program, operation, *arguments = command
        try:
            self._ceph.run(f'{program} {operation}', arguments)
        except processutils.ProcessExecutionError as error:
            raise rbd.failure(
                f'flatten {image}',
                int(error.exit_code or 0),
                error.stderr or '',
            ) from error
        except subprocess.TimeoutExpired:
            raise exception.TransferTimeout(
                job='flatten', seconds=timeout, option='mirror_timeout'
            ) from None
        progress('flatten', 100, 100)

    @contextlib.contextmanager
    def started(self, kind: str, limits: Limits) -> Iterator[FakeDataPlane]:
        self.limits = limits
        self.waiting.append(kind)
        try:
            yield self
        finally:
            self.waiting.remove(kind)

    def save(
        self,
        data_plane: FakeDataPlane,
        view: View,
        encoding: Encoding,
        path: str,
        timeout: int,
        progress: Progress,
        cancellation: Cancellation,
    ) -> int:
        self._read(view, encoding, cancellation, path)
        progress('save', 1, 1)
        return len(CONTENT)

    def stream(
        self,
        data_plane: FakeDataPlane,
        view: View,
        encoding: Encoding,
        image: str,
        glance_access: Callable[[], GlanceAccess],
        retries: int,
        timeout: int,
        progress: Progress,
        cancellation: Cancellation,
    ) -> Sent:
        self._read(view, encoding, cancellation)
        progress('stream', 0, 1)
        sha512 = self._send(CONTENT, image, glance_access, cancellation)
        progress('stream', 1, 1)
        return Sent(len(CONTENT), sha512)

    def _read(
        self,
        view: View,
        encoding: Encoding,
        cancellation: Cancellation,
        path: str = os.devnull,
    ) -> None:
        self.view, self.encoding = view, encoding
        self.cancellation = cancellation
        file = pathlib.Path(path)
        file.write_bytes(CONTENT[:10])
        self.at_extract()
        cancellation.check()
        file.write_bytes(CONTENT)

    def upload(
        self,
        path: str,
        image: str,
        glance_access: Callable[[], GlanceAccess],
        retries: int,
        timeout: int,
        limits: Limits,
        progress: Progress,
        cancellation: Cancellation,
    ) -> str:
        content = pathlib.Path(path).read_bytes()
        return self._send(content, image, glance_access, cancellation)

    def _send(
        self,
        content: bytes,
        image: str,
        glance_access: Callable[[], GlanceAccess],
        cancellation: Cancellation,
    ) -> str:
        self.at_upload()
        cancellation.check()
        self.accesses.append(glance_access())
        headers: dict[str, Any] = {}
        self._glance.answer(
            Request('PUT', f'/v2/images/{image}/file', headers, content)
        )
        cancellation.check()
        return hashlib.sha512(content).hexdigest()
