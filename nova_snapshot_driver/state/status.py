# SPDX-License-Identifier: Apache-2.0
"""How far the snapshots of a host have come, for its other processes.

One file for each domain that is being snapshotted, beside its journal. It is
removed when the snapshot ends. One that was left by a snapshot that died lies
there without a lock, and the next snapshot of the domain removes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import threading
import time
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import Self

from oslo_log import log as logging

from nova_snapshot_driver.common import codec
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common.events import Event
from nova_snapshot_driver.common.private_files import Directory
from nova_snapshot_driver.common.progress import IN_BYTES
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.state import locks
from nova_snapshot_driver.state import state_directory
from nova_snapshot_driver.state.state_directory import Foreign
from nova_snapshot_driver.state.state_directory import Listing
from nova_snapshot_driver.state.workspace import MIB

LOG = logging.getLogger(__name__)

VERSION = 2

#: The size in bytes that no status comes near to.
LARGEST = 1 << 20

#: The least time between two writes of the file, in seconds.
WRITE_INTERVAL = 1.0

#: Between two lines of the log in one step there is at least so much time, in
#: seconds, and so much progress, in percent.
LOG_INTERVAL = 60.0
LOG_STRIDE = 10


def _now() -> str:
    now = datetime.datetime.now(datetime.UTC)
    return now.isoformat(timespec='seconds')


@dataclasses.dataclass(frozen=True)
class Status:
    """How far one snapshot has come.

    :ivar pid: of the process that takes it
    :ivar images: the ids in Glance of those that it makes
    :ivar files: the paths of those that go to files
    :ivar method: ``backup``, ``mirror``, ``cold`` or ``volumes``
    :ivar step: that runs, as in ``Progress``; None before the first
    :ivar done: bytes, or any other share of the total
    :ivar rate: bytes in a second; None where it isn't known
    :ivar seconds_left: until the step ends, at this rate
    :ivar began: when the snapshot began, in ISO 8601, as the next
    :ivar updated: when all this was so
    """

    domain: str
    uuid: str
    images: tuple[str, ...]
    files: tuple[str, ...]
    method: str
    pid: int = dataclasses.field(default_factory=os.getpid)
    step: str | None = None
    done: int = 0
    total: int = 0
    percent: int = 0
    rate: int | None = None
    seconds_left: int | None = None
    began: str = dataclasses.field(default_factory=_now)
    updated: str = dataclasses.field(default_factory=_now)

    def to_json(self) -> str:
        return json.dumps({'version': VERSION, **codec.fields_of(self)})

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON; a single image or file has a field of its own.

        That field is null where there is none, or several.
        """
        return {
            **codec.fields_of(self),
            'image': only(self.images),
            'file': only(self.files),
        }

    @classmethod
    def from_json(cls, text: str) -> Self:
        """
        :raises ValueError, TypeError, KeyError, AttributeError,
            RecursionError: it is none
        """
        fields = json.loads(text)
        if fields.pop('version') != VERSION:
            raise ValueError('it is of another version')
        status: Self = codec.built(cls, fields)
        return status


def only(values: Sequence[str]) -> str | None:
    """The one of several values that is the only one, if any is."""
    return values[0] if len(values) == 1 else None


@contextlib.contextmanager
def reported(
    directory: str, status: Status, progress: Progress
) -> Iterator[Progress]:
    """Report on a snapshot, for as long as the context lasts.

    To be entered with the lock of the domain held. Nothing about it makes a
    snapshot fail.

    :param directory: ``[snapshot] state_directory``
    :param status: what is known when the snapshot begins
    :param progress: of whoever has asked for the snapshot
    :returns: what is to be told of the progress in place of that
    """
    file = _File(directory, locks.sidecar_path(status.uuid, locks.STATUS))
    try:
        yield _Report(file, status, progress)
    finally:
        file.remove()


def running(directory: str) -> Listing[Status]:
    """The snapshots that run in other processes of this host.

    :param directory: ``[snapshot] state_directory``
    """
    suffix = f'.{locks.STATUS}'
    with state_directory.opened(directory) as files:

        def load(name: str) -> Status | None:
            # A file without a lock means nothing, whatever is in it.
            if not locks.is_locked(directory, name.removesuffix(suffix)):
                return None
            return _load(files, name)

        names = state_directory.names(files, directory)
        return state_directory.listing(
            directory, [name for name in names if name.endswith(suffix)], load
        )


def _load(files: Directory, name: str) -> Status:
    """
    :raises Foreign: it is no status
    """
    content = state_directory.read(files, name, LARGEST)
    with state_directory.understood():
        status = Status.from_json(content)
    if name != locks.sidecar_path(status.uuid, locks.STATUS):
        raise Foreign('it is of another domain')
    return status


class _File:
    """The file of one status, which may be impossible to write."""

    def __init__(self, directory: str, name: str) -> None:
        self._directory = directory
        self._name = name
        self._is_broken = False

    def write(self, status: Status) -> None:
        try:
            with Directory.open(self._directory) as files:
                files.write(self._name, status.to_json().encode())
        except OSError as error:
            self._say(error)

    def remove(self) -> None:
        try:
            with Directory.open(self._directory) as files:
                files.remove(self._name)
        except OSError as error:
            self._say(error)

    def _say(self, error: OSError) -> None:
        if not self._is_broken:
            self._is_broken = True
            LOG.warning(
                '"nova-snapshot status" will not be right about a snapshot: '
                '%s: %s',
                os.path.join(self._directory, self._name),
                error.strerror,
            )


class _Report:
    """The progress of one snapshot, told to all who want to know."""

    def __init__(
        self, file: _File, status: Status, progress: Progress
    ) -> None:
        self._file = file
        self._status = status
        self._progress = progress
        self._lock = threading.Lock()
        self._pace = _Pace(0)
        self._written = time.monotonic()
        self._logged = 0.0
        self._logged_percent = 0
        file.write(status)

    def __call__(self, step: str, done: int, total: int) -> None:
        self._progress(step, done, total)
        with self._lock:
            before = self._status
            # An upload that is tried again begins with byte 0.
            begins = step != before.step or done < before.done
            ends = done >= total and (begins or before.done < before.total)
            if begins:
                self._pace = _Pace(done)
            self._status = self._now(step, done, total)
            self._write(begins or ends)
            self._log(begins or ends)

    def _now(self, step: str, done: int, total: int) -> Status:
        rate = self._pace.rate(done)
        return dataclasses.replace(
            self._status,
            step=step,
            done=done,
            total=total,
            percent=100 * done // total if total else 100,
            rate=int(rate) if rate and step in IN_BYTES else None,
            seconds_left=round((total - done) / rate) if rate else None,
            updated=_now(),
        )

    def _write(self, at_once: bool) -> None:
        now = time.monotonic()
        if at_once or now >= self._written + WRITE_INTERVAL:
            self._written = now
            self._file.write(self._status)

    def _log(self, at_once: bool) -> None:
        status, now = self._status, time.monotonic()
        if not at_once and (
            now < self._logged + LOG_INTERVAL
            or status.percent < self._logged_percent + LOG_STRIDE
        ):
            return
        self._logged, self._logged_percent = now, status.percent
        events.log_event(
            LOG.info,
            Event.PROGRESS,
            f'Snapshot of domain {status.domain}: {_in_words(status)}',
            status.uuid,
            step=status.step,
            percent=status.percent,
        )


class _Pace:
    """How fast a step goes, on average since it began.

    :param done: what was done by then
    """

    def __init__(self, done: int) -> None:
        self._first = done
        self._began = time.monotonic()

    def rate(self, done: int) -> float:
        """In a second; 0 where it isn't known yet."""
        passed = time.monotonic() - self._began
        return (done - self._first) / passed if passed > 0 else 0.0


def _in_words(status: Status) -> str:
    words = f'{status.step}, {status.percent} %'
    if status.step in IN_BYTES:
        words += f' of {status.total // MIB} MiB'
    if status.rate is not None:
        words += f', {status.rate / MIB:.1f} MiB/s'
    if status.seconds_left is not None:
        words += f', {status.seconds_left} s left'
    return words
