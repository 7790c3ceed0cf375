# SPDX-License-Identifier: Apache-2.0
"""Looks at paths that tell a missing file from one that nobody may see.

``os.path.exists`` and its kin answer no to both.
"""

from __future__ import annotations

import os


def is_there(path: str) -> bool:
    """Whether anything has a path, a link to nowhere included.

    :raises OSError: nobody can tell
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_shut(path: str) -> bool:
    """Whether a file is there, or may be, and this user can't read it."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(path, os.R_OK)
