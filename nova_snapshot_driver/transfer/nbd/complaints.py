# SPDX-License-Identifier: Apache-2.0
"""The standard error of a child."""

from __future__ import annotations

import os
from typing import IO


def new() -> IO[bytes]:
    """A file in memory: no temporary directory has to be usable."""
    return open(os.memfd_create('complaints'), 'w+b')


def read(file: IO[bytes], most: int | None = None) -> str:
    """The words of the child so far.

    :param most: bytes, from the end
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0 if most is None else max(0, size - most))
    return file.read().decode(errors='replace').strip()
