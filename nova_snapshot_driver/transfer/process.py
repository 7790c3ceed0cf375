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

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.image import GlanceAccess
from nova_snapshot_driver.progress import Progress

LOG = logging.getLogger(__name__)

POLL_INTERVAL = 0.5


def extract(
    view: Layer,
    target: Layer,
    compress: bool,
    timeout: int,
    progress: Progress,
    cancellation: Cancellation,
) -> None:
    """Write the content of a view into a flat image.

    :raises CommandFailed: ``qemu-img convert`` failed
    :raises TransferTimeout: it took longer than the timeout, in seconds
    """
    job = {
        'kind': 'extract',
        'source': dataclasses.asdict(view),
        'target': dataclasses.asdict(target),
        'compress': compress,
    }
    _run(job, timeout, 'extract_timeout', progress, cancellation)


def upload(
    path: str,
    image: str,
    glance_access: Callable[[], GlanceAccess],
    retries: int,
    timeout: int,
    progress: Progress,
    cancellation: Cancellation,
) -> str:
    """Send a file to Glance and prove that it holds what was sent.

    :param glance_access: the way to Glance, with tokens that are valid when it
        is called; an upload may outlive them
    :param retries: how often a failed attempt is repeated, from byte 0
    :returns: the SHA-512 of the file
    :raises UploadFailed: all attempts failed
    :raises ImageUnproven: Glance holds something else
    :raises TransferTimeout: it took longer than the timeout, in seconds
    """
    job = {
        'kind': 'upload',
        'path': path,
        'image': image,
        'retries': retries,
    }
    result = _run(
        job,
        timeout,
        'upload_timeout',
        progress,
        cancellation,
        {'glance_access': lambda: glance_access().to_dict()},
    )
    return str(result['sha512'])


def _run(
    job: dict[str, Any],
    timeout: int,
    option: str,
    progress: Progress,
    cancellation: Cancellation,
    answers: Mapping[str, Callable[[], dict[str, Any]]] | None = None,
) -> dict[str, Any]:
    """
    :param answers: to the questions that the job may have
    """
    deadline = time.monotonic() + timeout
    with _started(job) as (messages, process, errors):
        while True:
            cancellation.check()
            if time.monotonic() > deadline:
                raise exception.TransferTimeout(
                    job=job['kind'], seconds=timeout, option=option
                )
            try:
                message = messages.get(timeout=POLL_INTERVAL)
            except queue.Empty:
                continue
            match message:
                case {'progress': [done, total]}:
                    progress(job['kind'], done, total)
                case {'ask': question} if answers:
                    # Whoever answers may be waiting for somebody else.
                    threading.Thread(
                        target=_answer,
                        args=(process, answers[question], messages),
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
                        job=job['kind'],
                        status=_status(process),
                        reason=_tail(errors),
                    )


@contextlib.contextmanager
def _started(
    job: dict[str, Any],
) -> Iterator[
    tuple[
        queue.Queue[Any],
        subprocess.Popen[bytes],
        IO[bytes],
    ]
]:
    """The process, of which nothing is left when the context ends."""
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, '-P', '-m', 'nova_snapshot_driver.transfer'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        ) as process,
    ):
        messages: queue.Queue[Any] = queue.Queue()
        reader = threading.Thread(
            target=_read, args=(process.stdout, messages), daemon=True
        )
        reader.start()
        try:
            _tell(process, job)
            yield messages, process, errors
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]
            reader.join()


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
