# SPDX-License-Identifier: Apache-2.0
"""A clone in Ceph that is to become an image, and the snapshot for it."""

from __future__ import annotations

import contextlib
import dataclasses

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.rbd import Ceph
from nova_snapshot_driver.clients.rbd import Clone
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.takings.left_behind import image_left_behind
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.tools import UndoTools


@dataclasses.dataclass(frozen=True)
class CephSnapshot(Taking):
    """The disk of a guest has a snapshot, which its clone is made from."""

    clone: Clone

    KIND = 'ceph-snapshot'
    WHOSE = Whose.IMAGE

    def describe(self) -> str:
        return f'remove the snapshot {self.clone.disk}@{self.clone.snapshot}'

    def state(self) -> str:
        return f'snapshot {self.clone.disk}@{self.clone.snapshot}'

    def undo(self, tools: UndoTools) -> None:
        """Remove the snapshot, and a clone that still needs it.

        Such a clone is not complete, and no image.
        """
        clone = self.clone
        ceph = tools.ceph(clone.disk.user)
        with contextlib.suppress(exception.CephNotFound, exception.CephDenied):
            parent = ceph.parent(clone.image)
            if parent is not None and parent[1] == clone.snapshot:
                remove_clone(tools.domain, ceph, clone)
        remove_snapshot(tools.domain, ceph, clone)


@dataclasses.dataclass(frozen=True)
class CephClone(Taking):
    """The clone is called as the image in Glance that it is to be."""

    clone: Clone

    KIND = 'ceph-clone'
    WHOSE = Whose.IMAGE
    NEEDS_GLANCE = True

    def describe(self) -> str:
        return f'remove the clone {self.clone.image}, unless it is complete'

    def state(self) -> str:
        return f'clone {self.clone.image}'

    def is_due(self, tools: UndoTools) -> bool:
        return not tools.is_complete.get(self.clone.image.name, False)

    def undo(self, tools: UndoTools) -> None:
        """
        :raises ImageLeftBehind: nobody knows whether it is an image
        :raises UndoFailed: Ceph does not remove it
        """
        clone = self.clone
        if clone.image.name not in tools.is_complete:
            raise image_left_behind(
                clone.image.name,
                f'nobody knows whether {clone.image} in Ceph are its data',
            )
        remove_clone(tools.domain, tools.ceph(clone.disk.user), clone)


def remove_snapshot(
    domain: str, ceph: Ceph, clone: Clone, patience: float = 0
) -> None:
    """See that the disk has no snapshot of ours.

    :param patience: the seconds after which it will not come any more
    :raises UndoFailed: Ceph does not do it
    """
    at = f'{clone.disk}@{clone.snapshot}'
    undo.retry_undo(
        domain,
        f'remove the snapshot {at} in Ceph',
        lambda: ceph.remove_snapshot(clone.disk, clone.snapshot, patience),
        f'Remove it with "rbd snap unprotect {at}" and "rbd snap rm {at}": '
        'with it the disk can not be deleted. The next snapshot of the domain '
        'tries it again.',
    )


def remove_clone(domain: str, ceph: Ceph, clone: Clone) -> None:
    """See that there is no clone which is to be no image.

    :raises UndoFailed: Ceph does not do it
    """
    undo.retry_undo(
        domain,
        f'remove the clone {clone.image} in Ceph',
        lambda: ceph.remove(clone.image),
        f'Remove it with "rbd snap purge {clone.image}" and "rbd rm '
        f'{clone.image}". The next snapshot of the domain tries it again.',
    )
