# SPDX-License-Identifier: Apache-2.0
"""A clone in Ceph gets all of its data, which stays in Ceph."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from typing import IO

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import rbd
from nova_snapshot_driver.common import children
from nova_snapshot_driver.transfer.jobs.job import Flatten
from nova_snapshot_driver.transfer.jobs.job import Parent
from nova_snapshot_driver.transfer.nbd.bounds import Bounds

#: The bytes that are kept of the command's output: its end says why it failed.
_TAIL = 4000


def run(job: Flatten, bounds: Bounds, parent: Parent) -> dict[str, int | str]:
    """Flatten one clone, which Ceph does at its own pace."""
    try:
        process = subprocess.Popen(  # noqa: S603 (the driver's own)
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=children.environment(),
        )
    except FileNotFoundError:
        raise exception.CommandMissing(
            command='rbd', package='ceph-common'
        ) from None
    with process:
        said = _follow(process.stderr, parent.progress)  # type: ignore[arg-type]
        status = process.wait()
    if status:
        raise rbd.failure(
            f'flatten {job.image}', status, said.decode(errors='replace')
        )
    return {}


def _follow(output: IO[bytes], progress: Callable[[int, int], None]) -> bytes:
    """Follow the output of the command, and keep its end.

    Progress comes as ``Image flatten: 12% complete...`` and a CR.
    """
    said = b''
    while text := os.read(output.fileno(), 4096):
        for percent in re.findall(rb'(\d+)% complete', text):
            progress(int(percent), 100)
        said = (said + text.replace(b'\r', b'\n'))[-_TAIL:]
    return said
