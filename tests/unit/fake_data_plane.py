# SPDX-License-Identifier: Apache-2.0
"""The data plane without a process: what it would do, at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import subprocess
import types
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import Protocol

from oslo_concurrency import processutils

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import rbd
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.common.view import Volume
from nova_snapshot_driver.transfer.data_plane import Limits
from nova_snapshot_driver.transfer.formats import leaves
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs.job import Extract
from nova_snapshot_driver.transfer.jobs.job import Flatten
from nova_snapshot_driver.transfer.jobs.job import Hash
from nova_snapshot_driver.transfer.jobs.job import Increment
from nova_snapshot_driver.transfer.jobs.job import Job
from nova_snapshot_driver.transfer.jobs.job import Save
from nova_snapshot_driver.transfer.jobs.job import Sent
from nova_snapshot_driver.transfer.jobs.job import Stream
from nova_snapshot_driver.transfer.jobs.job import Update
from nova_snapshot_driver.transfer.jobs.job import Upload
from nova_snapshot_driver.transfer.jobs.job import Verdict
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.jobs.job import Written
from tests.unit.fake_glance import FakeGlance
from tests.unit.fake_glance import Request

CONTENT = b'the disk at one instant'

#: The hash of the leaves of an increment.
TREE = '0' * 64


class Ceph(Protocol):
    """The runner of Ceph's commands."""

    def run(self, name: str, arguments: list[str]) -> str: ...


class FakeDataPlane:
    """Stands for ``transfer.data_plane``.

    :ivar at_extract: called when a view is read, and half of the image is
        written; raises what that is to fail with
    :ivar at_upload: the same, before an upload
    :ivar view: what was read last
    :ivar encoding: and how
    :ivar limits: and in which bounds
    :ivar cancellation: by which it is told to stop
    :ivar waiting: the kinds of the jobs for which a process is there
    :ivar accesses: what it was told of Glance when it asked
    :ivar files: that it may read for it
    :ivar increments: the jobs of increments that it has done
    :ivar updates: the jobs that have updated a volume
    :ivar hashed: the views that it has hashed
    :ivar verified: the jobs of verifications that it has done
    :ivar tree: the hash of the leaves of every image that it hashes
    :ivar verdict: what it says of every image that it verifies
    """

    def __init__(self, glance: FakeGlance, ceph: Ceph) -> None:
        self._glance = glance
        self._ceph = ceph
        self.at_extract: Callable[[], object] = lambda: None
        self.at_upload: Callable[[], object] = lambda: None
        self.view: View | None = None
        self.encoding: Encoding | None = None
        self.limits: Limits | None = None
        self.cancellation: Cancellation | None = None
        self.waiting: list[str] = []
        self.accesses: list[GlanceAccess] = []
        self.files: tuple[str, ...] = ()
        self.increments: list[Increment] = []
        self.updates: list[Update] = []
        self.hashed: list[View] = []
        self.verified: list[Verify] = []
        self.tree = TREE
        self.verdict = Verdict(0, ())

    def run(
        self,
        job: Job[Any],
        limits: Limits,
        progress: Progress,
        cancellation: Cancellation,
        glance_access: Callable[[], GlanceAccess] | None = None,
    ) -> Any:
        # The limits of an upload are those of the reading before it.
        if not isinstance(job, Upload):
            self.limits = limits
        return self._run(job, progress, cancellation, glance_access)

    @contextlib.contextmanager
    def started(
        self,
        kind: type[Job[Any]],
        limits: Limits,
        progress: Progress,
        cancellation: Cancellation,
    ) -> Iterator[types.SimpleNamespace]:
        def run(
            job: Job[Any],
            glance_access: Callable[[], GlanceAccess] | None = None,
        ) -> Any:
            return self._run(job, progress, cancellation, glance_access)

        self.limits = limits
        self.waiting.append(kind.kind)
        try:
            yield types.SimpleNamespace(run=run)
        finally:
            self.waiting.remove(kind.kind)

    def _run(
        self,
        job: Job[Any],
        progress: Progress,
        cancellation: Cancellation,
        glance_access: Callable[[], GlanceAccess] | None,
    ) -> Any:
        self.cancellation = cancellation
        match job:
            case Extract():
                self._read(job, cancellation, job.path)
                progress('extract', 1, 1)
                return None
            case Flatten():
                return self._flatten(job, progress, cancellation)
            case Save():
                self._read(job, cancellation, job.path)
                progress('save', 1, 1)
                return len(CONTENT)
            case Increment():
                self._read(job, cancellation, job.path)
                pathlib.Path(job.leaves).write_bytes(b'')
                self.increments.append(job)
                progress('increment', 1, 1)
                return Written(len(CONTENT), 65536, TREE)
            case Update():
                self._read(job, cancellation)
                tree = _write_leaves(job.leaves, job.volume.size)
                self.updates.append(job)
                progress('update', 1, 1)
                return Written(len(CONTENT), 65536, tree)
            case Hash(view=Volume(size=size)):
                self.hashed.append(job.view)
                tree = _write_leaves(job.leaves, size)
                return tree if self.tree == TREE else self.tree
            case Hash():
                pathlib.Path(job.leaves).write_bytes(b'')
                return self.tree
            case Verify():
                self.verified.append(job)
                return self.verdict
            case Stream():
                self._read(job, cancellation)
                progress('stream', 0, 1)
                sent = self._send(CONTENT, job, glance_access, cancellation)
                progress('stream', 1, 1)
                return sent
            case Upload():
                content = pathlib.Path(job.path).read_bytes()
                return self._send(content, job, glance_access, cancellation)
        raise AssertionError(f'no such job: {job}')

    def _flatten(
        self, job: Flatten, progress: Progress, cancellation: Cancellation
    ) -> None:
        progress('flatten', 0, 100)
        self.at_extract()
        cancellation.check()
        program, operation, *arguments = job.command
        try:
            self._ceph.run(f'{program} {operation}', arguments)
        except processutils.ProcessExecutionError as error:
            raise rbd.failure(
                f'flatten {job.image}',
                int(error.exit_code or 0),
                error.stderr or '',
            ) from error
        except subprocess.TimeoutExpired:
            assert self.limits is not None
            raise exception.TransferTimeout(
                job='flatten',
                seconds=self.limits.timeout,
                option='flatten_timeout',
            ) from None
        progress('flatten', 100, 100)

    def _read(
        self,
        job: Extract | Increment | Save | Stream | Update,
        cancellation: Cancellation,
        path: str = os.devnull,
    ) -> None:
        self.view = job.view
        if not isinstance(job, Increment | Update):
            self.encoding = job.encoding
        file = pathlib.Path(path)
        file.write_bytes(CONTENT[:10])
        self.at_extract()
        cancellation.check()
        file.write_bytes(CONTENT)

    def _send(
        self,
        content: bytes,
        job: Stream | Upload,
        glance_access: Callable[[], GlanceAccess] | None,
        cancellation: Cancellation,
    ) -> Sent:
        assert glance_access is not None
        self.files = job.files
        self.at_upload()
        cancellation.check()
        self.accesses.append(glance_access())
        headers: dict[str, Any] = {}
        self._glance.answer(
            Request('PUT', f'/v2/images/{job.image}/file', headers, content)
        )
        cancellation.check()
        return Sent(len(content), hashlib.sha512(content).hexdigest())


def _write_leaves(path: str, size: int) -> str:
    """Have leaves of a disk, and return the hash of them."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(file, leaves.count(size) * leaves.LEAF)
        return leaves.Leaves(file, path).tree(size)
    finally:
        os.close(file)
