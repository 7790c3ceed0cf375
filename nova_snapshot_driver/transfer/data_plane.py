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
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import IO
from typing import Any
from typing import TypeVar

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.common import children
from nova_snapshot_driver.common import reason
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.transfer.jobs.job import Job
from nova_snapshot_driver.transfer.nbd import complaints
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from nova_snapshot_driver.transfer.settings import TransferSettings

LOG = logging.getLogger(__name__)

T = TypeVar('T')

POLL_INTERVAL = 0.5
JOIN_INTERVAL = 0.01

#: How much is told of what a process has said before it died, in bytes.
TAIL = 2000

#: The longest line that a process may say, in bytes, and how many of them are
#: kept that nobody has heard yet.
LONGEST_LINE = 1 << 20
BACKLOG = 64

#: How many questions are answered at once. A job asks one after the other.
QUESTIONS = 8

#: How a command is started that is to yield the disk to others.
IONICE: dict[str, list[str]] = {
    'none': [],
    'best-effort': ['ionice', '-c', '2', '-n', '7'],
    'idle': ['ionice', '-c', '3'],
}


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much a job may take from others.

    :ivar timeout: the seconds in which it has to be done
    :ivar bandwidth: bytes a second that it may read or send; 0 is no limit
    :ivar source_timeout: the seconds in which what it reads may be silent
    :ivar least_rate: bytes a second that it has to be served, and to get rid
        of; 0 is no limit
    :ivar nice: as ``nice(1)`` has it
    :ivar ionice: none, best-effort (with its lowest priority) or idle
    """

    timeout: int
    bandwidth: int = 0
    nice: int = 0
    ionice: str = 'none'
    source_timeout: int = 45
    least_rate: int = 0

    @classmethod
    def of(cls, settings: TransferSettings, kind: type[Job[Any]]) -> Limits:
        """The limits that the settings have for a kind of job."""
        return cls(
            getattr(settings, kind.timeout_option),
            settings.bandwidth,
            settings.nice,
            settings.ionice,
            settings.source_timeout,
            settings.least_rate,
        )

    @property
    def bounds(self) -> Bounds:
        """The limits that the job itself has to keep to."""
        return Bounds(self.bandwidth, self.source_timeout, self.least_rate)

    def without_yielding(self) -> Limits:
        """The limits of a job that a suspended guest waits for."""
        return dataclasses.replace(self, nice=0, ionice='none')

    def command(self) -> list[str]:
        """The beginning of a command line that makes it yield to others."""
        nice = ['nice', '-n', str(self.nice)] if self.nice else []
        return IONICE[self.ionice] + nice


def run(
    job: Job[T],
    limits: Limits,
    progress: Progress,
    cancellation: Cancellation,
    glance_access: Callable[[], GlanceAccess] | None = None,
) -> T:
    """Have a job done by a process that is started for it.

    :param glance_access: as that of ``DataPlane.run()``
    """
    with started(type(job), limits, progress, cancellation) as process:
        return process.run(job, glance_access)


class DataPlane:
    """A process that waits for its job, and does no other one after it.

    :param kind: of the job
    :param limits: that the process was started with
    :param errors: what it says on its standard error

    It is believed no more than what it reads, which may have taken it over.
    """

    def __init__(
        self,
        kind: str,
        limits: Limits,
        progress: Progress,
        cancellation: Cancellation,
        process: subprocess.Popen[bytes],
        errors: IO[bytes],
    ) -> None:
        self._kind = kind
        self._limits = limits
        self._progress = progress
        self._cancellation = cancellation
        self._process = process
        self._errors = errors
        self._messages: queue.Queue[Any] = queue.Queue(BACKLOG)
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
        # The process may have said more than anybody has heard.
        while self._reader.is_alive():
            with contextlib.suppress(queue.Empty):
                self._messages.get(timeout=JOIN_INTERVAL)

    def run(
        self,
        job: Job[T],
        glance_access: Callable[[], GlanceAccess] | None = None,
    ) -> T:
        """Have the job done; nothing is left of the process then.

        :param glance_access: the way to Glance, with tokens that are valid
            when it is called; an upload may outlive them. None for a job that
            is not to ask for it
        :returns: as ``Job.result()``
        :raises TransferTimeout: it took longer than its limits allow
        :raises TransferDied: it has ended without a result
        :raises SnapshotError: what the job itself raises
        """
        deadline = time.monotonic() + self._limits.timeout
        answering: list[threading.Thread] = []
        with contextlib.closing(self):
            _tell(
                self._process,
                {
                    'job': job.to_dict(),
                    'bounds': dataclasses.asdict(self._limits.bounds),
                },
            )
            while True:
                self._cancellation.check()
                if time.monotonic() > deadline:
                    raise exception.TransferTimeout(
                        job=self._kind,
                        seconds=self._limits.timeout,
                        option=job.timeout_option,
                    )
                try:
                    message = self._messages.get(timeout=POLL_INTERVAL)
                except queue.Empty:
                    continue
                match message:
                    case {'progress': [done, total]}:
                        self._progress(self._kind, done, total)
                    case {'ask': 'glance_access'} if glance_access:
                        answering = [t for t in answering if t.is_alive()]
                        if len(answering) < QUESTIONS:
                            answering.append(self._answered(glance_access))
                    case BaseException():
                        raise message
                    case {'result': said}:
                        return self._result(job, said)
                    case None:
                        raise self._death()

    def _result(self, job: Job[T], said: dict[str, Any]) -> T:
        try:
            return job.result(said)
        except ValueError as error:
            raise exception.TransferDied(
                job=self._kind,
                status=_status(self._process),
                reason=reason.plain(f'its result makes no sense: {error}'),
            ) from error

    def _answered(
        self, answer: Callable[[], GlanceAccess]
    ) -> threading.Thread:
        """Answer a question in a thread: Keystone may be slow."""
        thread = threading.Thread(
            target=_answer,
            args=(self._process, answer, self._messages),
            daemon=True,
        )
        thread.start()
        return thread

    def _death(self) -> exception.TransferDied:
        """Why it has ended without a result; the log has all of its words."""
        said = complaints.read(self._errors, TAIL)
        if said:
            LOG.warning('The data plane has died (%s):\n%s', self._kind, said)
        return exception.TransferDied(
            job=self._kind,
            status=_status(self._process),
            # The last line says why; a traceback may be above it.
            reason=reason.plain(said.rpartition('\n')[2])
            or 'it has said nothing',
        )


@contextlib.contextmanager
def started(
    kind: type[Job[Any]],
    limits: Limits,
    progress: Progress,
    cancellation: Cancellation,
) -> Iterator[DataPlane]:
    """A process of the data plane, of which nothing is left afterwards.

    To start takes it a while, in which its job need not be known yet.
    """
    with (
        complaints.new() as errors,
        _process(kind.kind, limits.command(), errors) as process,
        contextlib.closing(
            DataPlane(
                kind.kind, limits, progress, cancellation, process, errors
            )
        ) as data_plane,
    ):
        yield data_plane


def _process(
    kind: str, limited: list[str], errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    command = [
        *limited,
        *(sys.executable, '-P', '-m', 'nova_snapshot_driver.transfer'),
        kind,
    ]
    children.log_start(command)
    try:
        return subprocess.Popen(  # noqa: S603 (a program of ours)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=children.environment(),
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
    answer: Callable[[], GlanceAccess],
    messages: queue.Queue[Any],
) -> None:
    try:
        _tell(process, {'answer': answer().to_dict()})
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
    while line := output.readline(LONGEST_LINE):
        message = understood(line)
        if message is None:
            LOG.warning('The data plane says: %r', line[:TAIL])
        else:
            messages.put(message)
    messages.put(None)


def understood(line: bytes) -> dict[str, Any] | exception.SnapshotError | None:
    """The message that a process says in a line.

    :returns: None where it makes no sense
    """
    try:
        match json.loads(line):
            case {'error': dict(error)}:
                return exception.from_dict(error)
            case (
                {'progress': [int(), int()]}
                | {'ask': str()}
                | {'result': dict()}
            ) as message:
                return dict(message)
    except (ValueError, TypeError, LookupError, RecursionError):
        # A library may have printed something.
        return None
    return None


def _status(process: subprocess.Popen[bytes]) -> str:
    try:
        return f'exit status {process.wait(POLL_INTERVAL)}'
    except subprocess.TimeoutExpired:
        return 'it has closed its output'
