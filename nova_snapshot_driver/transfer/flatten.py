# SPDX-License-Identifier: Apache-2.0
"""A clone in Ceph gets all of its data, which stays in Ceph."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from typing import IO
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver import rbd
from nova_snapshot_driver.transfer.job import Parent

#: What is kept of what the command says, in bytes: the end says why.
_TAIL = 4000


def run(job: dict[str, Any], parent: Parent) -> dict[str, Any]:
    """Do it.

    :param job: ``command`` and ``image``, the name of the clone
    :raises CephError: it did not succeed
    """
    try:
        process = subprocess.Popen(
            job['command'],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
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
            f'flatten {job["image"]}', status, said.decode(errors='replace')
        )
    return {}


def _follow(output: IO[bytes], progress: Callable[[int, int], None]) -> bytes:
    """Read the progress, and what it says else.

    It comes as ``Image flatten: 12% complete...`` and a CR.
    """
    said = b''
    while text := os.read(output.fileno(), 4096):
        for percent in re.findall(rb'(\d+)% complete', text):
            progress(int(percent), 100)
        said = (said + text.replace(b'\r', b'\n'))[-_TAIL:]
    return said
