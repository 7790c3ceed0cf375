# SPDX-License-Identifier: Apache-2.0
"""The room that a snapshot needs on this host."""

from __future__ import annotations

import os

from nova_snapshot_driver import qemu_img
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.plan import Path
from nova_snapshot_driver.plan import Plan


def needs(
    guest: Guest, plan: Plan, root: str, destination: str | None
) -> list[tuple[str, int]]:
    """Directories, and the bytes that each is to take at most.

    A backup job has a scratch file beside, whose size nobody knows.

    :param root: ``[libvirt] snapshots_directory``
    :param destination: where the image lies; None where it never does
    :raises UnsafeBackingFile: the chain of the source can't be read safely
    """
    found = []
    chain = _chain(guest, plan)
    if plan.path is Path.MIRROR:
        found.append((root, _delta_bytes(guest, plan, chain)))
    if destination is not None:
        found.append((destination, _content_bytes(guest, plan)))
    return found


def _chain(guest: Guest, plan: Plan) -> list[Layer]:
    if plan.path in (Path.DIRECT, Path.BACKUP):
        # Ceph or QEMU has it, and nobody opens it anew.
        return []
    return qemu_img.backing_chain(guest.name, plan.source)


def _delta_bytes(guest: Guest, plan: Plan, chain: list[Layer]) -> int:
    content = _content_bytes(guest, plan)
    # Without a backing file the delta gets all of it, whatever holes and
    # compressed clusters the source has.
    delta = qemu_img.allocated_bytes(plan.source) if chain else content
    return min(delta, content)


def _content_bytes(guest: Guest, plan: Plan) -> int:
    path = plan.source.path
    unreadable = os.path.exists(path) and not os.access(path, os.R_OK)
    if plan.disk.encrypted or unreadable:
        return guest.capacity(plan.disk)
    return qemu_img.content_bytes(plan.source)
