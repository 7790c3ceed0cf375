# SPDX-License-Identifier: Apache-2.0
"""The bitmaps of an increment: the one that it begins, and those before it.

One of them is to stay, for the next increment. Which one it is, the record of
the snapshot says, which is written last: where it is there, the snapshot is
the base of the next one, and the bitmaps before it are of no use.
"""

from __future__ import annotations

import abc
import dataclasses
import os

from nova_snapshot_driver.common.codec import FilePath
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.checkpoints import PREFIX
from nova_snapshot_driver.takings.jobs import BackupJob
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.tools import UndoTools


@dataclasses.dataclass(frozen=True)
class BitmapTaking(Taking):
    """A bitmap that is to go, or to stay.

    :ivar record: the path of the record of the snapshot
    :raises ValueError: the bitmap is not of this driver
    """

    bitmap: Bitmap
    record: FilePath

    WHOSE = Whose.HOST
    # A job that still runs reads it.
    AFTER = frozenset({BackupJob.KIND})

    def __post_init__(self) -> None:
        # An author of the journal is to have no other bitmap removed.
        if not self.bitmap.name.startswith(PREFIX):
            raise ValueError('a bitmap is not of this driver')

    def describe(self) -> str:
        return f'remove the bitmap {self.bitmap.name} of {self.bitmap.disk}'

    def state(self) -> str:
        return f'with the bitmap {self.bitmap.name}'

    def is_due(self, tools: UndoTools) -> bool:
        """Whether the bitmap is to go, and QEMU is there to remove it.

        One that stays in the image of a guest that has stopped takes a few
        KiB, and is in nobody's way.
        """
        return (
            self._is_to_go()
            and tools.found is not None
            and tools.found.is_active()
        )

    def undo(self, tools: UndoTools) -> None:
        tools.guest.checkpoints.remove(self.bitmap)

    @abc.abstractmethod
    def _is_to_go(self) -> bool: ...

    def _is_complete(self) -> bool:
        """Whether the snapshot has become the base of the next one."""
        return os.path.lexists(self.record)


class NewBitmap(BitmapTaking):
    """A bitmap that has begun with the snapshot."""

    KIND = 'new-bitmap'

    def _is_to_go(self) -> bool:
        return not self._is_complete()


class OldBitmap(BitmapTaking):
    """A bitmap that has begun with a snapshot before."""

    KIND = 'old-bitmap'

    def _is_to_go(self) -> bool:
        return self._is_complete()
