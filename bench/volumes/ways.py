# SPDX-License-Identifier: Apache-2.0
"""The ways to take a snapshot of a volume-backed server."""

import dataclasses
from collections.abc import Mapping

from bench.ways import NOVA_DRIVER
from lab.cloud.log import ServiceLog
from lab.cloud.options import STOCK_API
from lab.cloud.options import CloudOptions
from lab.cloud.options import Storage

_NOVA = CloudOptions(
    driver=NOVA_DRIVER, storage=Storage.CEPH, app_factory=STOCK_API
)
_OURS = CloudOptions(storage=Storage.CEPH)


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to take a snapshot: a nova-api with a driver, and a guest."""

    name: str
    title: str
    #: all others of nova-compute are the default ones
    options: CloudOptions
    #: whether the guest has one
    has_agent: bool


UPSTREAM_FROZEN = Way(
    'upstream-frozen', "Nova's own, frozen by the agent", _NOVA, has_agent=True
)
UPSTREAM_UNHELD = Way(
    'upstream-unheld', "Nova's own, without an agent", _NOVA, has_agent=False
)
FROZEN = Way(
    'frozen', 'this driver, frozen by the agent', _OURS, has_agent=True
)
PAUSED = Way('paused', 'this driver, paused', _OURS, has_agent=False)

#: The ways of every round, in this order.
WAYS = (UPSTREAM_FROZEN, UPSTREAM_UNHELD, FROZEN, PAUSED)


def way_of(properties: Mapping[str, str], nova_api: ServiceLog) -> Way:
    """The way in which a snapshot was taken, whichever was wanted.

    :param properties: of its image
    :param nova_api: the log, from the request on
    """
    if 'snapshot_stall_seconds' in properties:
        return PAUSED if properties['snapshot_paused'] == 'true' else FROZEN
    if nova_api.grep('Skipping quiescing instance'):
        return UPSTREAM_UNHELD
    return UPSTREAM_FROZEN
