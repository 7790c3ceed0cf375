# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of which libvirt has a record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Self

from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.tools import UndoTools

#: The undo, in words.
FORGET = 'have libvirt forget its checkpoints'


@dataclasses.dataclass(frozen=True)
class CheckpointMetadata(Taking):
    """libvirt has a record of a checkpoint, and so undefines no domain."""

    KIND = 'checkpoint-metadata'
    WHOSE = Whose.GUEST

    @classmethod
    def suspected(cls, _tools: UndoTools) -> Iterable[Self]:
        return (cls(),)

    def describe(self) -> str:
        return FORGET

    def state(self) -> str:
        return 'with checkpoints'

    def is_due(self, tools: UndoTools) -> bool:
        return bool(tools.guest.checkpoints.names())

    def undo(self, tools: UndoTools) -> None:
        tools.guest.checkpoints.forget()


def remedy(domain: str) -> str:
    """Advice for a person where the undo is refused."""
    return (
        'Until then the domain can\'t be undefined. Do it with "virsh '
        f'checkpoint-delete --metadata {domain} NAME" for each of "virsh '
        f'checkpoint-list {domain}" that begins with nova-snapshot-.'
    )
