# SPDX-License-Identifier: Apache-2.0
"""Paths that this user may not look at."""

from __future__ import annotations

import os


def may_exist(path: str) -> bool:
    """Whether something is at a path, or nobody can tell.

    ``os.path.exists`` takes a path behind a shut directory for missing.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # Opening the path tells what is in the way.
        return True
    return True
