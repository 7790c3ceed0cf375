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

from nova_snapshot_driver import exception
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.transfer import layer
from nova_snapshot_driver.transfer.job import Parent
from nova_snapshot_driver.transfer.job import view_from_dict

#: As many as ``qemu-img`` takes.
COROUTINES = '16'


def run(job: dict[str, Any], parent: Parent) -> dict[str, Any]:
    """Do one extraction.

    :param job: ``view``, ``target`` (a path and a format), ``encoding`` and
        ``bandwidth``
    :raises CommandFailed: ``qemu-img`` did not succeed
    """
    target, encoding = Layer(**job['target']), Encoding(**job['encoding'])
    os.umask(0o077)
    with (
        layer.arguments(view_from_dict(job['view'])) as (source, inherited),
        tempfile.TemporaryFile() as errors,
        _qemu_img(
            [
                'convert',
                *_how(encoding, job['bandwidth']),
                *('-p', '-t', 'writeback', '-O', target.format),
                *source,
                target.path,
            ],
            errors,
            inherited,
        ) as process,
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
        return subprocess.Popen(
            ['qemu-img', *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
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
