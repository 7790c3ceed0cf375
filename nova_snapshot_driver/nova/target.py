# SPDX-License-Identifier: Apache-2.0
"""Where the snapshot of a server is to go, as its owner or Nova has it."""

from __future__ import annotations

import enum

import nova.conf
from nova import objects
from nova.compute import task_states

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.snapshot.plan.instance import Target

CONF = nova.conf.CONF

#: The property by which a request asks for a target, and an image and the
#: metadata of a server too.
PROPERTY = 'snapshot_target'

#: The extra spec of a flavor. A scope keeps it from the scheduler, which takes
#: one without for a capability of hosts.
EXTRA_SPEC = 'snapshot:target'

#: The tasks whose image need not have data. Unshelving spawns a server from
#: the data of its image, and so does a resize to another cell.
OF_ITS_OWNER = (task_states.IMAGE_SNAPSHOT, task_states.IMAGE_BACKUP)


class Place(enum.Enum):
    """The place that names a target, in words."""

    REQUEST = 'the request'
    SERVER = 'the metadata of the server'
    IMAGE = 'the image of the server'
    FLAVOR = 'the flavor'


def target_of(
    context: Context, instance: objects.Instance, image_id: str
) -> Target:
    """The target of a snapshot.

    A request leaves its property on the image of the snapshot, where servers
    made from the image would inherit it: it is taken off again. nova-api also
    writes there what the image of the server has.

    :raises TargetInvalid: there is no such target
    """
    glance = Glance(context.glance_access())
    of_request = glance.get(image_id).properties.get(PROPERTY)
    if of_request is not None:
        glance.remove_properties(image_id, [PROPERTY])
    if instance.task_state not in OF_ITS_OWNER:
        return Target.IMAGE
    of_image = instance.system_metadata.get(f'image_{PROPERTY}')
    named = {
        Place.REQUEST: None if of_request == of_image else of_request,
        Place.SERVER: instance.metadata.get(PROPERTY),
        Place.IMAGE: of_image,
        Place.FLAVOR: instance.flavor.extra_specs.get(EXTRA_SPEC),
    }
    for place, value in named.items():
        if value is not None:
            return _target(value, place)
    return Target(CONF.snapshot.target)


def _target(value: str, place: Place) -> Target:
    try:
        return Target(value)
    except ValueError:
        raise exception.TargetInvalid(value=value, where=place.value) from None
