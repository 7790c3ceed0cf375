# SPDX-License-Identifier: Apache-2.0
"""The results of a run, as they are kept."""

from __future__ import annotations

import dataclasses

from bench.way_results import WayResults
from bench.way_results import WaySample


@dataclasses.dataclass(frozen=True)
class Sample(WaySample):
    """The cost of one snapshot, in seconds."""

    #: from the request until the image is active, and Cinder's snapshots are
    #: available
    wall: float
    #: from the request to nova-api's answer
    answer: float
    #: the longest silence of the guest
    stall: float
    #: the longest silence of the guest before, without a snapshot
    idle_stall: float
    #: for how long the guest stood still, as the driver says; Nova's own says
    #: nothing
    still: float | None = None


class Results(WayResults[Sample]):
    """The results of a run."""

    SAMPLE = Sample
