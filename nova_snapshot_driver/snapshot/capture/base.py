# SPDX-License-Identifier: Apache-2.0
"""The tools of the ways to views of disks at one instant.

Each way is a context manager: entering it makes the views, leaving it gives
the guest back exactly as it was found.
"""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.snapshot.capture.environment import Environment
from nova_snapshot_driver.snapshot.capture.quiesce import Quiesce
from nova_snapshot_driver.snapshot.capture.settings import CaptureSettings
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.takings.tools import UndoTools


class Aftermath:
    """The state of a guest after the last byte of its disks was read.

    The data of the images is complete then, and is not given up for it.

    :ivar notes: for a person, a sentence or more each
    :ivar is_unfinished: something is still to be given back
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.is_unfinished = False

    def leave(self, error: exception.UndoFailed) -> None:
        """Leave to the journal what could not be given back."""
        self.is_unfinished = True
        self.notes.append(
            f'The image is complete. {error} Until then the driver goes on '
            'trying.'
        )


@dataclasses.dataclass(frozen=True)
class CaptureTools:
    """The tools that a capture works with.

    :ivar undo: the tools that give the guest back
    :ivar aftermath: where the capture says how it has ended
    """

    settings: CaptureSettings
    workspace: Workspace
    quiesce: Quiesce
    environment: Environment
    progress: Progress
    cancellation: Cancellation
    aftermath: Aftermath
    undo: UndoTools
