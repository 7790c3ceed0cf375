# SPDX-License-Identifier: Apache-2.0
"""The parent's side of the data plane."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import IO
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.image import GlanceAccess
from nova_snapshot_driver.progress import Progress
from nova_snapshot_driver.transfer.job import view_to_dict
from nova_snapshot_driver.view import View

LOG = logging.getLogger(__name__)

POLL_INTERVAL = 0.5

#: How a command is started that is to yield the disk to others.
IONICE: dict[str, list[str]] = {
    'none': [],
    'best-effort': ['ionice', '-c', '2', '-n', '7'],
    'idle': ['ionice', '-c', '3'],
}


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much a job may take from others.

    :ivar bandwidth: bytes a second that it may read or send; 0 is no limit
    :ivar nice: as ``nice(1)`` has it
    :ivar ionice: none, best-effort (with its lowest priority) or idle
    """

    bandwidth: int = 0
    nice: int = 0
    ionice: str = 'none'

    @classmethod
    def of(cls, conf: cfg.ConfigOpts) -> Limits:
        group = conf.snapshot
        return cls(group.bandwidth << 20, group.nice, group.ionice)

    def without_yielding(self) -> Limits:
        """For what a guest is waiting for."""
        return Limits(self.bandwidth)

    def command(self) -> list[str]:
        """What a command is started by."""
        nice = ['nice', '-n', str(self.nice)] if self.nice else []
        return IONICE[self.ionice] + nice


@dataclasses.dataclass(frozen=True)
class Sent:
    """What Glance is proven to hold.

    :ivar size: in bytes
    """

    size: int
    sha512: str


def extract(
    view: View,
    target: Layer,
    encoding: Encoding,
    timeout: int,
    limits: Limits,
    progress: Progress,
    cancellation: Cancellation,
) -> None:
    """Write the content of a view into a flat image.

    It is for formats that can't be written in one pass, and for hosts without
    libnbd.

    :raises CommandFailed: ``qemu-img convert`` failed
    :raises TransferTimeout: it took longer than the timeout, in seconds
    """
    job = {
        'view': view_to_dict(view),
        'target': dataclasses.asdict(target),
        'encoding': dataclasses.asdict(encoding),
    }
    with started('extract', limits) as data_plane:
        data_plane.do(job, timeout, 'extract_timeout', progress, cancellation)


def flatten(
    command: list[str],
    image: str,
    timeout: int,
    limits: Limits,
    progress: Progress,
    cancellation: Cancellation,
) -> None:
    """Have a clone in Ceph get all of its data.

    :param command: that does it
    :param image: the name of the clone
    :raises CephError: it failed
    :raises TransferTimeout: it took longer than the timeout, in seconds
    """
    job = {'command': command, 'image': image}
    with started('flatten', limits) as data_plane:
        data_plane.do(job, timeout, 'mirror_timeout', progress, cancellation)


def save(
    data_plane: DataPlane,
    view: View,
    encoding: Encoding,
    path: str,
    timeout: int,
    progress: Progress,
    cancellation: Cancellation,
) -> int:
    """Write the content of a view into an image, in one pass.

    :param data_plane: started for it
    :param encoding: one of those that are ``encoding.STREAMABLE``
    :param path: of a file that does not exist yet, or is empty
    :returns: the size of the image, in bytes
    :raises OutputExists: there is something at the path
    :raises LibnbdMissing: it can't be done in one pass here
    :raises SourceUnreadable: the view, in whole or in part
    :raises TransferTimeout: it took longer than the timeout, in seconds
    """
    job = {
        'view': view_to_dict(view),
        'encoding': dataclasses.asdict(encoding),
        'path': path,
    }
    result = data_plane.do(
        job, timeout, 'extract_timeout', progress, cancellation
    )
    return int(result['size'])


def stream(
    data_plane: DataPlane,
    view: View,
    encoding: Encoding,
    image: str,
    glance_access: Callable[[], GlanceAccess],
    retries: int,
    timeout: int,
    progress: Progress,
    cancellation: Cancellation,
) -> Sent:
    """Send the content of a view to Glance, in one pass, and prove it.

    :param data_plane: started for it
    :param encoding: one of those that are ``encoding.STREAMABLE``
    :param glance_access: as that of ``upload()``
    :param retries: how often a failed attempt is repeated, from byte 0
    :raises LibnbdMissing: it can't be done in one pass here
    :raises SourceUnreadable: the view, in whole or in part
    :raises UploadFailed: all attempts failed
    :raises ImageNotFound: the image was deleted meanwhile
    :raises ImageUnproven: Glance holds something else
    :raises TransferTimeout: it took longer than the timeout, in seconds
    """
    job = {
        'view': view_to_dict(view),
        'encoding': dataclasses.asdict(encoding),
        'image': image,
        'retries': retries,
    }
    result = data_plane.do(
        job,
        timeout,
        'upload_timeout',
        progress,
        cancellation,
        {'glance_access': lambda: glance_access().to_dict()},
    )
    return Sent(**result)


def upload(
    path: str,
    image: str,
    glance_access: Callable[[], GlanceAccess],
    retries: int,
    timeout: int,
    limits: Limits,
    progress: Progress,
    cancellation: Cancellation,
) -> str:
    """Send a file to Glance and prove that it holds what was sent.

    :param glance_access: the way to Glance, with tokens that are valid when it
        is called; an upload may outlive them
    :param retries: how often a failed attempt is repeated, from byte 0
    :returns: the SHA-512 of the file
    :raises UploadFailed: all attempts failed
    :raises ImageNotFound: the image was deleted meanwhile
    :raises ImageUnproven: Glance holds something else
    :raises TransferTimeout: it took longer than the timeout, in seconds
    """
    job = {
        'path': path,
        'image': image,
        'retries': retries,
    }
    with started('upload', limits) as data_plane:
        result = data_plane.do(
            job,
            timeout,
            'upload_timeout',
            progress,
            cancellation,
            {'glance_access': lambda: glance_access().to_dict()},
        )
    return str(result['sha512'])


class DataPlane:
    """A process that waits for its job, and does no other one after it.

    :param kind: of the job
    :param limits: that the process was started with
    :param errors: what it says on its standard error
    """

    def __init__(
        self,
        kind: str,
        limits: Limits,
        process: subprocess.Popen[bytes],
        errors: IO[bytes],
    ) -> None:
        self._kind = kind
        self._limits = limits
        self._process = process
        self._errors = errors
        self._messages: queue.Queue[Any] = queue.Queue()
        self._reader = threading.Thread(
            target=_read, args=(process.stdout, self._messages), daemon=True
        )
        self._reader.start()

    def close(self) -> None:
        """See that nothing is left of the process; it may be so already."""
        assert self._process.stdin is not None  # noqa: S101 (for mypy)
        if self._process.stdin.closed:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._reader.join()

    def do(
        self,
        job: dict[str, Any],
        timeout: int,
        option: str,
        progress: Progress,
        cancellation: Cancellation,
        answers: Mapping[str, Callable[[], dict[str, Any]]] | None = None,
    ) -> dict[str, Any]:
        """Have the job done; nothing is left of the process then.

        :param answers: to the questions that the job may have
        """
        deadline = time.monotonic() + timeout
        with contextlib.closing(self):
            _tell(self._process, {**job, 'bandwidth': self._limits.bandwidth})
            while True:
                cancellation.check()
                if time.monotonic() > deadline:
                    raise exception.TransferTimeout(
                        job=self._kind, seconds=timeout, option=option
                    )
                try:
                    message = self._messages.get(timeout=POLL_INTERVAL)
                except queue.Empty:
                    continue
                match message:
                    case {'progress': [done, total]}:
                        progress(self._kind, done, total)
                    case {'ask': question} if answers:
                        # Whoever answers may be waiting for somebody else.
                        threading.Thread(
                            target=_answer,
                            args=(
                                self._process,
                                answers[question],
                                self._messages,
                            ),
                            daemon=True,
                        ).start()
                    case BaseException():
                        raise message
                    case {'error': error}:
                        raise exception.from_dict(error)
                    case {'result': result}:
                        return dict(result)
                    case None:
                        raise exception.TransferDied(
                            job=self._kind,
                            status=_status(self._process),
                            reason=_tail(self._errors),
                        )


@contextlib.contextmanager
def started(kind: str, limits: Limits) -> Iterator[DataPlane]:
    """A process of the data plane, of which nothing is left afterwards.

    That it starts takes a while, in which its job need not be known yet.

    :param kind: of the job: extract, flatten, save, stream or upload
    """
    with (
        tempfile.TemporaryFile() as errors,
        _process(kind, limits.command(), errors) as process,
        contextlib.closing(
            DataPlane(kind, limits, process, errors)
        ) as data_plane,
    ):
        yield data_plane


def _process(
    kind: str, limited: list[str], errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [
                *limited,
                *(sys.executable, '-P', '-m', 'nova_snapshot_driver.transfer'),
                kind,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        if error.filename != 'ionice':
            raise
        raise exception.CommandMissing(
            command='ionice', package='util-linux'
        ) from None


def _answer(
    process: subprocess.Popen[bytes],
    answer: Callable[[], dict[str, Any]],
    messages: queue.Queue[Any],
) -> None:
    try:
        _tell(process, {'answer': answer()})
    except exception.SnapshotError as error:
        # The job may try again.
        _tell(process, {'error': error.to_dict()})
    except BaseException as error:
        messages.put(error)


def _tell(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    # A process that is dead already says so through its output; one that is
    # given up has its input closed.
    with contextlib.suppress(BrokenPipeError, ValueError):
        process.stdin.write(json.dumps(message).encode() + b'\n')  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]


def _read(output: IO[bytes], messages: queue.Queue[Any]) -> None:
    for line in output:
        try:
            messages.put(json.loads(line))
        except ValueError:
            LOG.warning('The data plane says: %r', line)
    messages.put(None)


def _status(process: subprocess.Popen[bytes]) -> str:
    try:
        return f'exit status {process.wait(POLL_INTERVAL)}'
    except subprocess.TimeoutExpired:
        return 'it has closed its output'


def _tail(errors: IO[bytes], size: int = 2000) -> str:
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - size))
    return errors.read().decode(errors='replace').strip()
