# SPDX-License-Identifier: Apache-2.0
"""The few things that only root may do."""

from __future__ import annotations

import os
from pathlib import Path

from lab.bounded import run

_TIMEOUT = 30


def as_root(*argv: str | Path) -> str:
    """Run a command as root, or with a sudo that asks for no password."""
    sudo = [] if os.geteuid() == 0 else ['sudo', '-n']
    return run([*sudo, *argv], timeout=_TIMEOUT)
