# SPDX-License-Identifier: Apache-2.0
"""Paths that may be there, as far as this user can tell.

``os.path.exists`` says no where nobody may look.
"""

from __future__ import annotations

import os


def may_exist(path: str) -> bool:
    """Whether something is there, or whatever is there can't be looked at.

    What reads the path later says what is in the way.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
