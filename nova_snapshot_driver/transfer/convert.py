# SPDX-License-Identifier: Apache-2.0
"""The extraction: a view becomes a flat image, by ``qemu-img convert``."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from typing import IO
from typing import Any
from typing import Protocol

from nova_snapshot_driver import exception

#: As many as ``qemu-img`` takes.
COROUTINES = '16'


class Parent(Protocol):
    def progress(self, done: int, total: int) -> None: ...


def run(job: dict[str, Any], parent: Parent) -> dict[str, Any]:
    """Do one extraction.

    :param job: ``source`` and ``target``, each a path and a format, and
        ``compress``
    :raises CommandFailed: ``qemu-img`` did not succeed
    """
    source, target = job['source'], job['target']
    # Blocks that are written out of order can't be compressed.
    how = ['-c'] if job['compress'] else ['-W', '-m', COROUTINES]
    arguments = [
        'convert',
        *how,
        *('-p', '-t', 'writeback'),
        *('-f', source['format'], '-O', target['format']),
        source['path'],
        target['path'],
    ]
    os.umask(0o077)
    with (
        tempfile.TemporaryFile() as errors,
        _qemu_img(arguments, errors) as process,
    ):
        _follow(process.stdout, parent.progress)  # type: ignore[arg-type]
        status = process.wait()
        if status:
            errors.seek(0)
            raise exception.CommandFailed(
                command='qemu-img convert',
                status=status,
                reason=errors.read().decode(errors='replace').strip(),
            )
    return {}


def _qemu_img(
    arguments: list[str], errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            ['qemu-img', *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
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
