# SPDX-License-Identifier: Apache-2.0
"""A file of this host that becomes the image."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.common import paths
from nova_snapshot_driver.common import private_files
from nova_snapshot_driver.common.cancellation import Cancellation
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
        try:
            self.file = os.path.abspath(path)
        except OSError as error:
            # The current directory is gone.
            raise self._unusable(os.path.dirname(path), error) from error
        self.draft = naming.draft_of(
            self.file, _longest_name(os.path.dirname(self.file))
        )

    @property
    def artefacts(self) -> Artefacts:
        return Artefacts(files=(self.file,), drafts=(self.draft,))

    def check(self) -> None:
        if self._exists():
            raise exception.OutputExists(path=self.file)
        directory = os.path.dirname(self.file)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise exception.DirectoryUnusable(
                directory=directory,
                reason='it is missing or cannot be written',
                option=OUTPUT,
            )
        self._is_checked = True

    def _exists(self) -> bool:
        """
        :raises OutputUnusable: there can be no such file
        """
        try:
            os.lstat(self.file)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False
        except OSError as error:
            # For example, the name is too long for the file system.
            raise exception.OutputUnusable(
                path=self.file, reason=error.strerror
            ) from error
        return True

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
        self._publish()
        return Proof(os.path.getsize(self.file), None)

    def _publish(self) -> None:
        directory = os.path.dirname(self.file)
        try:
            with private_files.held(directory) as place:
                self._rename_in(place)
        except FileExistsError:
            raise exception.OutputExists(path=self.file) from None
        except OSError as error:
            raise self._unusable(directory, error) from error

    def _rename_in(self, place: str) -> None:
        draft, file = (
            os.path.join(place, os.path.basename(path))
            for path in (self.draft, self.file)
        )
        # A name belongs to the one that creates it: no file is ever replaced.
        with open(file, 'x'):
            try:
                os.replace(draft, file)
            except OSError:
                # The name was empty a moment ago, and is ours.
                os.unlink(file)
                raise

    @staticmethod
    def _unusable(
        directory: str, error: OSError
    ) -> exception.DirectoryUnusable:
        return exception.DirectoryUnusable(
            directory=directory or os.curdir,
            reason=error.strerror,
            option=OUTPUT,
        )


def _longest_name(directory: str) -> int:
    """The bytes that the name of a file in a directory may have."""
    try:
        return os.pathconf(directory, 'PC_NAME_MAX')
    except OSError:
        # A missing directory is reported by check().
        return naming.LONGEST
