# SPDX-License-Identifier: Apache-2.0
"""The tools that an undo on one domain of this host works with."""

from __future__ import annotations

import functools

from nova_snapshot_driver.clients.rbd import Ceph
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.state import journal
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings.tools import UndoSettings
from nova_snapshot_driver.takings.tools import UndoTools


def of(
    settings: UndoSettings,
    kept: Journal,
    uuid: str,
    name: str,
    guest: Guest | None,
) -> UndoTools:
    """
    :param kept: in which the snapshot is
    :param uuid: of the domain
    :param name: of the domain
    :param guest: None where the domain is gone
    """
    return UndoTools(
        domain=name,
        uuid=uuid,
        settings=settings,
        claimed=functools.partial(
            kept.claimed, uuid, name, settings.qemu_timeout
        ),
        ceph=functools.partial(Ceph, settings.ceph),
        author=functools.partial(journal.owner, settings.state_directory),
        configured=settings.directories,
        found=guest,
    )
