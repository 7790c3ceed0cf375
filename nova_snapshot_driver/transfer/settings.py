# SPDX-License-Identifier: Apache-2.0
"""The settings of the data plane."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class TransferSettings:
    """The options that limit the data plane.

    :ivar bandwidth: bytes a second; 0 is no limit
    :ivar nice: as ``nice(1)`` has it
    :ivar ionice: none, best-effort (with its lowest priority) or idle
    :ivar source_timeout: seconds in which the source may be silent
    :ivar least_rate: bytes a second below which a job is given up; 0 is none
    :ivar upload_timeout: seconds for all of an upload
    :ivar extract_timeout: seconds for all of an extraction
    :ivar flatten_timeout: seconds for all of a copy inside Ceph
    """

    bandwidth: int
    nice: int
    ionice: str
    source_timeout: int
    least_rate: int
    upload_timeout: int
    extract_timeout: int
    flatten_timeout: int
