# SPDX-License-Identifier: Apache-2.0
"""The results of a run, as they are kept."""

from __future__ import annotations

import dataclasses

from bench.way_results import WayResults
from bench.way_results import WaySample


@dataclasses.dataclass(frozen=True)
class Sample(WaySample):
    """The cost of one snapshot; sizes are bytes, times seconds."""

    #: from the request to the active image; for ``READ``, the time of that
    wall: float
    #: of the disk, since the snapshot before
    changed: int = 0
    #: to Cinder or Glance
    sent: int = 0
    #: the longest silence of the guest
    stall: float = 0.0
    #: the longest silence of the guest before, without a snapshot
    idle_stall: float = 0.0
    #: of the data plane with its children, at its peak
    memory: int = 0


class Results(WayResults[Sample]):
    """The results of a run."""

    SAMPLE = Sample
