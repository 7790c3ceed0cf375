# SPDX-License-Identifier: Apache-2.0
"""The ways to what has changed on a disk since its last snapshot."""

from __future__ import annotations

import enum


class Way(enum.Enum):
    """How a snapshot learned what had changed since the one before it."""

    #: Everything is taken: there is nothing to build on.
    FULL = 'full'
    #: QEMU has recorded it.
    BITMAP = 'bitmap'
    #: All of the disk is read, and compared by the hashes of its chunks.
    COMPARE = 'compare'
