# SPDX-License-Identifier: Apache-2.0
"""The directory in which the command is called, which may be gone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def existing() -> Iterator[None]:
    """Change to an existing directory, if the current one is gone."""
    try:
        os.getcwd()
    except FileNotFoundError:
        here = os.open(os.curdir, os.O_PATH | os.O_DIRECTORY)
    else:
        yield
        return
    try:
        os.chdir(os.sep)
        yield
    finally:
        os.fchdir(here)
        os.close(here)
