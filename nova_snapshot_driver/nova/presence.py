# SPDX-License-Identifier: Apache-2.0
"""The mark by which nova-api knows that a host has this driver.

nova-compute reports the mark with the resources of its host. A nova-compute
with Nova's own driver reports resources without it, so that the mark never
outlives the driver.
"""

from __future__ import annotations

from typing import Any

from nova import exception as nova_exception
from nova import objects
from nova.context import RequestContext

#: The key among the ``stats`` of a compute node which says that its snapshots
#: of volumes are ours, and in which version.
STAT = 'snapshot_driver_volumes'
VERSION = '1'


def report(resources: dict[str, Any]) -> None:
    """Add the mark to the answer of ``get_available_resource()``."""
    resources['stats'] = {**(resources.get('stats') or {}), STAT: VERSION}


def is_on_host_of(
    context: RequestContext, instance: objects.Instance, servicegroup: Any
) -> bool:
    """Whether the host of an instance has the driver, and is up.

    A host that can't be asked counts as one without the driver.

    :param context: of the cell of the instance
    :param servicegroup: ``nova.servicegroup.API``
    """
    if not instance.host or not instance.node:
        return False
    try:
        service = objects.Service.get_by_compute_host(context, instance.host)
        node = objects.ComputeNode.get_by_host_and_nodename(
            context, instance.host, instance.node
        )
    except nova_exception.NotFound:
        return False
    stats = node.stats if 'stats' in node else None
    return (
        service is not None
        and servicegroup.service_is_up(service)
        and (stats or {}).get(STAT) == VERSION
    )
