# SPDX-License-Identifier: Apache-2.0
"""A directory that this process, which is not changed, may not look into.

``denied`` has the kernel refuse it, to another user.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import fixtures


class Hidden(fixtures.Fixture):
    """All that is below a directory is refused, as the kernel refuses it.

    Tests may run as root, whom no mode keeps out.
    """

    def __init__(self, directory: os.PathLike[str] | str) -> None:
        super().__init__()
        self._below = os.path.join(directory, '')

    def _setUp(self) -> None:
        for name in ('stat', 'lstat'):
            self.useFixture(
                fixtures.MockPatchObject(
                    os, name, self._refusing(getattr(os, name))
                )
            )
        self.useFixture(
            fixtures.MockPatch('builtins.open', self._refusing(open))
        )

    def _refusing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **named: Any) -> Any:
            if isinstance(path, str | os.PathLike) and os.fspath(
                path
            ).startswith(self._below):
                raise PermissionError(
                    errno.EACCES, os.strerror(errno.EACCES), os.fspath(path)
                )
            return real(path, *arguments, **named)

        return call
