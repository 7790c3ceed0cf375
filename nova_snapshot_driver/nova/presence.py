# SPDX-License-Identifier: Apache-2.0
"""Whether a host has this driver, as nova-api can know it.

nova-compute reports it with the resources of its host. One that has Nova's
own driver reports something else in its place, so that it never outlives the
driver.
"""

from __future__ import annotations

from typing import Any

from nova import exception as nova_exception
from nova import objects
from nova.context import RequestContext

#: Among the ``stats`` of a compute node: that its snapshots of volumes are
#: ours, and which version of them.
STAT = 'snapshot_driver_volumes'
VERSION = '1'


def report(resources: dict[str, Any]) -> None:
    """Add it to what ``get_available_resource()`` says."""
    resources['stats'] = {**(resources.get('stats') or {}), STAT: VERSION}


def is_on_host_of(
    context: RequestContext, instance: objects.Instance, servicegroup: Any
) -> bool:
    """Whether the host of an instance has the driver, and is up.

    Where there is no telling it has not.

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
