# SPDX-License-Identifier: Apache-2.0
"""A file that appears when it is complete, and replaces no other one."""

from __future__ import annotations

import os

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.common import private_files


class NewFile:
    """A file on this host that does not exist yet.

    :param option: the option or the argument that names it
    :ivar path: of the file
    :ivar draft: where it is written before it is published
    """

    def __init__(self, path: str, option: str) -> None:
        self._option = option
        try:
            self.path = os.path.abspath(path)
        except OSError as error:
            # The current directory is gone.
            raise self._unusable(os.path.dirname(path), error) from error
        self.draft = naming.draft_of(
            self.path, _longest_name(os.path.dirname(self.path))
        )

    def check(self) -> None:
        """
        :raises OutputExists: something has the name
        :raises OutputUnusable: nothing can have it
        :raises DirectoryUnusable: nothing can be written beside it
        """
        if self._exists():
            raise exception.OutputExists(path=self.path)
        directory = os.path.dirname(self.path)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise exception.DirectoryUnusable(
                directory=directory,
                reason='it is missing or cannot be written',
                option=self._option,
            )

    def publish(self) -> None:
        """Give the draft its name.

        :raises OutputExists: something has got the name meanwhile
        """
        directory = os.path.dirname(self.path)
        try:
            with private_files.held(directory) as place:
                self._rename_in(place)
        except FileExistsError:
            raise exception.OutputExists(path=self.path) from None
        except OSError as error:
            raise self._unusable(directory, error) from error

    def _exists(self) -> bool:
        """
        :raises OutputUnusable: there can be no such file
        """
        try:
            os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False
        except OSError as error:
            # For example, the name is too long for the file system.
            raise exception.OutputUnusable(
                path=self.path, reason=error.strerror, option=self._option
            ) from error
        return True

    def _rename_in(self, place: str) -> None:
        draft, file = (
            os.path.join(place, os.path.basename(path))
            for path in (self.draft, self.path)
        )
        # A name belongs to the one that creates it: no file is ever replaced.
        with open(file, 'x'):
            try:
                os.replace(draft, file)
            except OSError:
                # The name was empty a moment ago, and is ours.
                os.unlink(file)
                raise

    def _unusable(
        self, directory: str, error: OSError
    ) -> exception.DirectoryUnusable:
        return exception.DirectoryUnusable(
            directory=directory or os.curdir,
            reason=error.strerror,
            option=self._option,
        )


def _longest_name(directory: str) -> int:
    """The bytes that the name of a file in a directory may have."""
    try:
        return os.pathconf(directory, 'PC_NAME_MAX')
    except OSError:
        # A missing directory is reported by check().
        return naming.LONGEST
