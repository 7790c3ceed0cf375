# SPDX-License-Identifier: Apache-2.0
"""Events while a backup job runs, before anything has been read."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from pathlib import Path

from lab.guest import WitnessGuest
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.ownership import Kind
from nova_snapshot_driver.snapshot.capture.environment import Environment

#: The content that the guest overwrites while it is snapshotted.
MARK = b'what was there at the instant'

#: MiB of it.
MARKED = 8


class Exported(Environment):
    """Has something happen when the export of a backup job is there.

    The guest is thawed by then, and the image not begun.
    """

    def __init__(self, happens: Callable[[], object]) -> None:
        self._happens = happens

    def claim(self, path: str, kind: Kind, owners: Collection[int]) -> Inode:
        inode = super().claim(path, kind, owners)
        self._happens()
        return inode


def write_mark(guest: WitnessGuest) -> None:
    """Have the guest fill a file with the mark."""
    guest.agent_exec(
        f'yes "{MARK.decode()}" | dd of=/data/mark bs=1M count={MARKED} '
        'iflag=fullblock && sync',
        timeout=60,
    )


def overwrite_mark(guest: WitnessGuest) -> None:
    """Have the guest write something else in the very same place."""
    guest.agent_exec(
        f'dd if=/dev/zero of=/data/mark bs=1M count={MARKED} conv=notrunc '
        '&& sync',
        timeout=60,
    )


def files_with_mark(*directories: Path) -> list[Path]:
    """The files that hold it as plain text."""
    return [
        file
        for directory in directories
        for file in directory.rglob('*')
        if file.is_file() and MARK in file.read_bytes()
    ]
