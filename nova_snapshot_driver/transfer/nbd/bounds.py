# SPDX-License-Identifier: Apache-2.0
"""How much a job may take of a host, and how long it may be kept waiting."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Limits of what a server may take of a host and of time.

    :ivar bandwidth: bytes a second that are read at most; 0 is no limit
    :ivar timeout: the seconds in which it may be silent
    :ivar least_rate: the bytes a second that it has to serve; 0 for any
    """

    bandwidth: int = 0
    timeout: float = 45
    least_rate: int = 0
