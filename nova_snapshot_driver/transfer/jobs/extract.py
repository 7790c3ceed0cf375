# SPDX-License-Identifier: Apache-2.0
"""The extraction: a view becomes a flat image, by ``qemu-img convert``."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable
from collections.abc import Iterator
from typing import IO

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import children
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs import image_file
from nova_snapshot_driver.transfer.jobs.job import Extract
from nova_snapshot_driver.transfer.jobs.job import Parent
from nova_snapshot_driver.transfer.nbd import complaints
from nova_snapshot_driver.transfer.nbd import image_options
from nova_snapshot_driver.transfer.nbd.bounds import Bounds

#: As many as ``qemu-img`` takes.
COROUTINES = '16'

#: How a file is named that this process has opened.
_BY_DESCRIPTOR = '/proc/self/fd/{descriptor}'


def run(job: Extract, bounds: Bounds, parent: Parent) -> dict[str, int | str]:
    """Do one extraction."""
    with (
        _opened(job.path) as file,
        image_options.arguments(job.view) as (source, inherited),
        complaints.new() as errors,
        _qemu_img(
            [
                'convert',
                *_how(job.encoding, bounds.bandwidth),
                *('-p', '-t', 'writeback', '-O', job.encoding.format),
                *source,
                _BY_DESCRIPTOR.format(descriptor=file),
            ],
            errors,
            (*inherited, file),
        ) as process,
    ):
        _follow(process.stdout, parent.progress)  # type: ignore[arg-type]
        status = process.wait()
        if status:
            raise exception.CommandFailed(
                command='qemu-img convert',
                status=status,
                reason=complaints.read(errors).replace(
                    _BY_DESCRIPTOR.format(descriptor=file), job.path
                )
                or _silent_end(status),
            )
    return {}


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """
    :raises CommandFailed: it can't be, which ``qemu-img`` would have met too
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(image_file.opened(path))
        except OSError as error:
            raise exception.CommandFailed(
                command='qemu-img convert',
                status=1,
                reason=f'{path}: {error.strerror}',
            ) from error
        yield file


def _silent_end(status: int) -> str:
    """Why it has ended that has said nothing, such as at a limit of a shell.

    :param status: negative for a signal
    """
    return signal.strsignal(-status) or '' if status < 0 else ''


def _how(encoding: Encoding, bandwidth: int) -> list[str]:
    if encoding.compression is None:
        how = ['-W', '-m', COROUTINES]
    else:
        # Blocks that are written out of order can't be compressed.
        how = ['-c', '-o', f'compression_type={encoding.compression}']
    return how + (['-r', str(bandwidth)] if bandwidth else [])


def _qemu_img(
    arguments: list[str], errors: IO[bytes], inherited: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 (a list, and no shell)
            ['qemu-img', *arguments],  # noqa: S607 (the host has it)
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=children.environment(),
            pass_fds=inherited,
        )
    except FileNotFoundError:
        raise exception.CommandMissing(
            command='qemu-img', package='qemu-utils'
        ) from None


def _follow(output: IO[bytes], progress: Callable[[int, int], None]) -> None:
    """Read the progress, which comes as ``    (12.34/100%)`` and a CR."""
    while text := os.read(output.fileno(), 4096):
        for percent in re.findall(rb'\(([\d.]+)/100%\)', text):
            progress(round(float(percent) * 100), 10000)
