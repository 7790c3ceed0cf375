# SPDX-License-Identifier: Apache-2.0
"""The program promtool, without the service of the package that has it."""

import tempfile
from pathlib import Path

from lab.bounded import locked
from lab.directory import cache_directory
from lab.packages import unpack

_INSTALL_TIMEOUT = 900


def promtool() -> Path:
    """Return the path of the program, which is downloaded if it is missing.

    Any number of processes may call it at once.

    :raises LabError: apt can't find or fetch the package
    """
    cache = cache_directory()
    program = cache / 'promtool'
    with locked(program.with_suffix('.lock'), _INSTALL_TIMEOUT):
        if not program.exists():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                tree = unpack(['prometheus'], Path(scratch))
                (tree / 'usr/bin/promtool').rename(program)
    return program
