# SPDX-License-Identifier: Apache-2.0
"""Paths that this process may not look at, whoever runs the tests."""

from __future__ import annotations

import os
import pathlib

import fixtures

from nova_snapshot_driver.common.private_files import ROOT

#: The user that has no files anywhere.
NOBODY = 65534


class Denied(fixtures.Fixture):
    """The kernel keeps this process out of a path.

    Root gets in everywhere, and so is another user meanwhile. That user may
    pass all directories above.

    :param mode: of the path, for its owner and all others
    """

    def __init__(self, path: pathlib.Path | str, mode: int = 0) -> None:
        super().__init__()
        self._path = pathlib.Path(path)
        self._mode = mode

    def _setUp(self) -> None:
        self._set_mode(self._path, self._mode)
        if os.geteuid() != ROOT:
            return
        for above in self._path.parents:
            mode = above.stat().st_mode
            if mode & 0o011 != 0o011:
                self._set_mode(above, mode | 0o011)
        os.seteuid(NOBODY)
        self.addCleanup(os.seteuid, ROOT)

    def _set_mode(self, path: pathlib.Path, mode: int) -> None:
        self.addCleanup(path.chmod, path.stat().st_mode & 0o7777)
        path.chmod(mode & 0o7777)
