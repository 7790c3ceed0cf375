# SPDX-License-Identifier: Apache-2.0
"""The processes that the driver starts, as they are seen from outside."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

DATA_PLANE = 'nova_snapshot_driver.transfer'
WATCHDOG = 'nova_snapshot_driver.recovery'


def data_plane() -> int | None:
    """The process id of the data plane that this process has started."""
    return next(iter(children(os.getpid(), DATA_PLANE)), None)


def qemu(uuid: str) -> int:
    """The process id of the QEMU of a domain."""
    for directory in Path('/proc').glob('[0-9]*'):
        # A process may have ended meanwhile.
        with contextlib.suppress(OSError):
            words = (directory / 'cmdline').read_text(errors='replace')
            if {'-uuid', uuid} <= set(words.split('\0')):
                return int(directory.name)
    raise LookupError(uuid)


def children(parent: int, module: str) -> list[int]:
    """The process ids of the children that run a module.

    Children alone, since other suites run beside this one and have processes
    like these.

    :param parent: the process id of who has started them
    """
    found = []
    for directory in Path('/proc').glob('[0-9]*'):
        # A process may have ended meanwhile.
        with contextlib.suppress(OSError):
            words = (directory / 'cmdline').read_text(errors='replace')
            if module in words.split('\0') and _status(directory)[
                'PPid'
            ] == str(parent):
                found.append(int(directory.name))
    return found


def peak_memory(pid: int) -> int:
    """The most bytes of memory that a process ever had at once."""
    return int(_status(Path(f'/proc/{pid}'))['VmHWM'].split()[0]) << 10


def _status(directory: Path) -> dict[str, str]:
    lines = (directory / 'status').read_text().splitlines()
    return dict(line.split(':\t', 1) for line in lines)
