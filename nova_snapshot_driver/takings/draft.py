# SPDX-License-Identifier: Apache-2.0
"""An image that goes to a file, until it is complete."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.common import paths
from nova_snapshot_driver.common import private_files
from nova_snapshot_driver.common.codec import FilePath
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.tools import UndoTools


@dataclasses.dataclass(frozen=True)
class Draft(Taking):
    """
    :raises ValueError: the path is not that of a draft
    """

    path: FilePath

    KIND = 'draft'
    WHOSE = Whose.IMAGE

    def __post_init__(self) -> None:
        # An author of the journal is to have no other file removed.
        if not naming.is_draft(self.path):
            raise ValueError('a draft has not the name of one')

    def describe(self) -> str:
        return f'remove {self.path}'

    def state(self) -> str:
        return f'file {self.path}'

    def is_due(self, tools: UndoTools) -> bool:
        """
        :raises UndoFailed: nobody can tell
        """
        with removal(tools.domain, self.path):
            return paths.is_there(self.path)

    def undo(self, tools: UndoTools) -> None:
        with removal(tools.domain, self.path):
            private_files.remove_file_of(tools.author(), self.path)


@contextlib.contextmanager
def removal(domain: str, path: str) -> Iterator[None]:
    """Remove a draft inside.

    :raises UndoFailed: the draft stays
    """
    try:
        yield
    except OSError as error:
        raise exception.UndoFailed(
            domain=domain,
            undo=f'remove {path}',
            reason=error.strerror,
            remedy='Remove it.',
        ) from error
