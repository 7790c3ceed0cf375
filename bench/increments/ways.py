# SPDX-License-Identifier: Apache-2.0
"""The ways to take a snapshot of a server of which a part has changed."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to take a snapshot."""

    name: str
    title: str
    #: the property ``snapshot_target`` of the request
    target: str
    #: the property ``snapshot_way`` of the image; None: it has none
    found: str | None
    #: of the data, which the guest changes before; None: it is paused
    percent: float | None = 0.0
    #: whether the volume grows before, which Cinder does not revert
    grows: bool = False


FULL_IMAGE = Way('full-image', 'full, into Glance', 'image', None)
FULL_VOLUME = Way('full-volume', 'full, into Cinder', 'volume', 'full')
NOTHING = Way(
    'nothing', 'increment, nothing changed', 'volume', 'bitmap', None
)
ONE = Way('1', 'increment, 1 % changed', 'volume', 'bitmap', 1)
COMPARE = Way(
    *('compare', 'comparison, 1 % changed', 'volume', 'compare', 1),
    grows=True,
)

#: The increments by which the cost is drawn, the least first.
INCREMENTS = (
    Way('0.1', 'increment, 0.1 % changed', 'volume', 'bitmap', 0.1),
    ONE,
    Way('10', 'increment, 10 % changed', 'volume', 'bitmap', 10),
    Way('50', 'increment, 50 % changed', 'volume', 'bitmap', 50),
)

#: The ways of every round, in this order.
WAYS = (FULL_IMAGE, FULL_VOLUME, NOTHING, *INCREMENTS, COMPARE)

#: No snapshot: the disk is read, and nothing is done with it.
READ = 'read'
