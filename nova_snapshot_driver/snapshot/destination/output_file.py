# SPDX-License-Identifier: Apache-2.0
"""A file of this host that becomes the image."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from nova_snapshot_driver.common import paths
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.new_file import NewFile
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.snapshot.destination.base import Artefacts
from nova_snapshot_driver.snapshot.destination.base import Proof
from nova_snapshot_driver.snapshot.destination.base import Staged
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.takings import draft

#: The option that names the file.
OUTPUT = '--output'


class OutputFile(Staged):
    """A file on this host with one disk; it appears when it is complete.

    :param domain: whose image it is
    """

    def __init__(self, domain: str, path: str) -> None:
        self._domain = domain
        self._is_checked = False
        self._new = NewFile(path, OUTPUT)
        self.file = self._new.path
        self.draft = self._new.draft

    @property
    def artefacts(self) -> Artefacts:
        return Artefacts(files=(self.file,), drafts=(self.draft,))

    def check(self) -> None:
        self._new.check()
        self._is_checked = True

    @contextlib.contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        try:
            yield
        finally:
            with draft.removal(self._domain, self.draft):
                if self._has_draft():
                    os.unlink(self.draft)

    def _has_draft(self) -> bool:
        """
        :raises OSError: nobody can tell
        """
        try:
            return paths.is_there(self.draft)
        except OSError:
            # A directory that has never passed the check has no draft of ours,
            # and the error of the check says more.
            if self._is_checked:
                raise
            return False

    def place(self, root: str) -> Place:
        return Place(os.path.dirname(self.file), OUTPUT)

    def staging(self, workspace: Workspace, planned: PlannedDisk) -> str:
        return self.draft

    def receive(
        self,
        path: str,
        properties: dict[str, Any],
        progress: Progress,
        cancellation: Cancellation,
    ) -> Proof:
        self._new.publish()
        return Proof(os.path.getsize(self.file), None)
