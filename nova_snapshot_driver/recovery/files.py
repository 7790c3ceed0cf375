# SPDX-License-Identifier: Apache-2.0
"""The files that a snapshot that died has left on this host."""

from __future__ import annotations

import os

from nova_snapshot_driver import exception
from nova_snapshot_driver import workspace
from nova_snapshot_driver.recovery.undoing import Undoing


def remove_temporary(undoing: Undoing, directory: str) -> None:
    """Remove its temporary files from a directory of several domains."""

    def remove() -> None:
        left = workspace.remove_abandoned(directory, undoing.uuid)
        if left:
            raise exception.NotGivenBack(
                domain=undoing.name,
                undo='remove its temporary files',
                reason='they are still there',
                remedy=f'Remove {", ".join(left)}.',
            )

    undoing.undo(
        f'remove its temporary files in {directory}',
        remove,
        lambda: bool(workspace.abandoned(directory, undoing.uuid)),
    )


def remove_draft(undoing: Undoing, draft: str) -> None:
    """Remove an image that is not complete, and goes to a file."""

    def remove() -> None:
        try:
            os.unlink(draft)
        except OSError as error:
            raise exception.NotGivenBack(
                domain=undoing.name,
                undo=f'remove {draft}',
                reason=error.strerror,
                remedy='Remove it.',
            ) from error

    undoing.undo(
        f'remove {draft}',
        remove,
        lambda: os.path.lexists(draft),
        draft=None,
    )
