# SPDX-License-Identifier: Apache-2.0
"""What is written on the image of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.plan import AnyPlan
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.plan import VolumesPlan
from nova_snapshot_driver.quiesce import Quiesce
from nova_snapshot_driver.stillness import Stillness

#: Nova keeps the properties of an image in a column of this width when a
#: server is booted from it.
LONGEST_VALUE = 255

#: Containers that Glance takes for a disk of the same format alone.
AMAZON_FORMATS = ('aki', 'ami', 'ari')

#: What this driver says of a snapshot, beyond what Nova's own says.
OURS = (
    'snapshot_method',
    'snapshot_method_reason',
    'snapshot_quiesced',
    'snapshot_quiesced_reason',
    'snapshot_paused',
    'snapshot_paused_reason',
    'snapshot_still_seconds',
)

#: Properties that belong to one image and to no image made from it
#: (``nova.compute.utils``).
NEVER_INHERITED = frozenset(
    {
        'cinder_encryption_key_id',
        'cinder_encryption_key_deletion_policy',
        'img_signature',
        'img_signature_hash_method',
        'img_signature_key_type',
        'img_signature_certificate_uuid',
    }
)

#: What Glance itself keeps of an image, as opposed to its properties.
_BASE_FIELDS = frozenset(
    {
        'checksum',
        'container_format',
        'created_at',
        'direct_url',
        'disk_format',
        'file',
        'locations',
        'min_disk',
        'min_ram',
        'os_hidden',
        'owner',
        'protected',
        'schema',
        'self',
        'stores',
        'tags',
        'updated_at',
        'virtual_size',
        'visibility',
    }
)


def of_snapshot(
    instance: Instance, plan: Plan, quiesce: Quiesce
) -> dict[str, Any]:
    """What the driver writes before it uploads.

    The first part is that of ``LibvirtDriver._create_snapshot_metadata``; the
    second part says how the snapshot was made.
    """
    upstream = {
        'disk_format': plan.encoding.format,
        'container_format': 'bare'
        if instance.container_format in AMAZON_FORMATS
        else instance.container_format,
        'image_location': 'snapshot',
        'image_state': 'available',
        'owner_id': instance.project_id,
        'kernel_id': instance.kernel_id,
        'ramdisk_id': instance.ramdisk_id,
        'os_type': instance.os_type,
    }
    return {
        name: value
        for name, value in (upstream | _ours(plan, quiesce)).items()
        if value is not None
    }


def of_volumes(
    plan: VolumesPlan, quiesce: Quiesce, stillness: Stillness
) -> dict[str, str]:
    """What the driver writes on an image of volumes.

    What upstream has on it is written by nova-api, and its mapping.
    """
    return {
        **_ours(plan, quiesce),
        'snapshot_paused': str(stillness.paused).lower(),
        'snapshot_paused_reason': stillness.reason[:LONGEST_VALUE],
        'snapshot_still_seconds': f'{stillness.seconds:.3f}',
    }


def _ours(plan: AnyPlan, quiesce: Quiesce) -> dict[str, str]:
    ours = {
        'snapshot_method': plan.path.value,
        'snapshot_method_reason': plan.path_reason,
        'snapshot_quiesced': str(quiesce.done).lower(),
        'snapshot_quiesced_reason': quiesce.reason,
    }
    return {name: value[:LONGEST_VALUE] for name, value in ours.items()}


def inherited(
    base: Mapping[str, Any], non_inheritable: Iterable[str]
) -> dict[str, Any]:
    """What the image of a snapshot has from the image of its instance.

    As ``nova.compute.utils.initialize_instance_snapshot_metadata``.

    :param base: the fields and properties of that image
    :param non_inheritable: ``[DEFAULT] non_inheritable_image_properties``
    """
    left_out = NEVER_INHERITED | _BASE_FIELDS | set(non_inheritable)
    return {
        name: value
        for name, value in base.items()
        if name not in left_out and not name.startswith('os_glance')
    }
