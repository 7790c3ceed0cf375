# SPDX-License-Identifier: Apache-2.0
"""The properties of the image of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.snapshot.capture.pause import Stall
from nova_snapshot_driver.snapshot.capture.quiesce import Quiesce
from nova_snapshot_driver.snapshot.destination.base import IncrementProof
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.model import AnyPlan
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.snapshot.plan.model import VolumesPlan

LOG = logging.getLogger(__name__)

#: Containers that Glance takes for a disk of the same format alone.
AMAZON_FORMATS = ('aki', 'ami', 'ari')

#: Properties that this driver adds to those of Nova's own driver.
OURS = (
    'snapshot_method',
    'snapshot_method_reason',
    'snapshot_quiesced',
    'snapshot_quiesced_reason',
    'snapshot_quiesced_file_systems',
    'snapshot_paused',
    'snapshot_paused_reason',
    'snapshot_stall_seconds',
    'snapshot_disk',
    'snapshot_disk_size',
    'snapshot_source_format',
    'snapshot_parent',
    'snapshot_way',
    'snapshot_way_reason',
    'snapshot_changed_bytes',
    'snapshot_sent_bytes',
    'snapshot_tree_sha256',
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

#: The beginnings of the names of properties that say how Nova builds a server
#: from an image, or Cinder a volume. Source: ``nova.objects.image_meta``.
_DECIDING_PREFIXES = ('cinder_', 'hw_', 'img_', 'os_', 'trait:')

#: Properties without such a prefix that say how to build, and those that
#: Glance itself needs.
_DECIDING = frozenset(
    {
        'architecture',
        'auto_disk_config',
        'bdm_v2',
        'block_device_mapping',
        'cache_in_nova',
        'config_drive',
        'container_format',
        'disk_format',
        'hypervisor_type',
        'hypervisor_version_requires',
        'ipxe_boot',
        'kernel_id',
        'mappings',
        'min_disk',
        'min_ram',
        'name',
        'ramdisk_id',
        'root_device_name',
        'visibility',
        'vm_mode',
    }
)

#: Properties that say how an image without data is used.
_OF_A_MAPPING = frozenset(
    {'block_device_mapping', 'bdm_v2', 'mappings', 'name', 'root_device_name'}
)

#: Fields of an image that Glance itself keeps, as opposed to properties.
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
    instance: Instance, plan: Plan, planned: PlannedDisk, quiesce: Quiesce
) -> dict[str, Any]:
    """The properties of the image of a disk, written before the upload.

    The first part is that of ``LibvirtDriver._create_snapshot_metadata``; the
    second part says how the snapshot was made.
    """
    upstream = {
        'disk_format': planned.encoding.format,
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
    disk = {
        'snapshot_disk': planned.target,
        'snapshot_disk_size': planned.size and str(planned.size),
        'snapshot_source_format': planned.disk.format,
    }
    return {
        name: value
        for name, value in (upstream | _ours(plan, quiesce) | disk).items()
        if value is not None
    }


def of_volumes(
    plan: VolumesPlan, quiesce: Quiesce, stall: Stall
) -> dict[str, str]:
    """The properties that the driver adds to an image of volumes.

    Upstream's own properties are written by nova-api, and the mapping by
    ``VolumeBackedImage``.
    """
    return {
        **_ours(plan, quiesce),
        'snapshot_paused': str(stall.paused).lower(),
        'snapshot_paused_reason': naming.for_glance(stall.reason.public),
        'snapshot_stall_seconds': f'{stall.seconds:.3f}',
    }


def of_increment(proof: IncrementProof) -> dict[str, str]:
    """The properties of an image that builds on another one, or may."""
    properties = {
        'snapshot_parent': proof.parent,
        'snapshot_way': proof.way,
        'snapshot_way_reason': naming.for_glance(proof.public_reason),
        'snapshot_changed_bytes': str(proof.changed),
        'snapshot_sent_bytes': str(proof.written),
        'snapshot_tree_sha256': proof.tree,
    }
    return {n: value for n, value in properties.items() if value is not None}


def of_volume(image: Mapping[str, Any]) -> dict[str, str]:
    """The properties that a volume has of the image that it was made from.

    Nova builds a server from a volume by these, as from the image.

    :param image: its fields and properties
    """
    return {
        name: value
        for name, value in image.items()
        if isinstance(value, str)
        and name not in _BASE_FIELDS | _OF_A_MAPPING
        and not is_optional(name)
    }


def _ours(plan: AnyPlan, quiesce: Quiesce) -> dict[str, str]:
    ours = {
        'snapshot_method': plan.method.value,
        'snapshot_method_reason': plan.method_reason.public,
        'snapshot_quiesced': str(quiesce.done).lower(),
        'snapshot_quiesced_reason': quiesce.reason.public,
        'snapshot_quiesced_file_systems': str(quiesce.file_systems),
    }
    return {name: naming.for_glance(value) for name, value in ours.items()}


def inherited(
    base: Mapping[str, Any], non_inheritable: Iterable[str]
) -> dict[str, Any]:
    """The properties that an image inherits from its instance's image.

    As ``nova.compute.utils.initialize_instance_snapshot_metadata`` does.

    :param base: the fields and properties of the image of the instance
    :param non_inheritable: ``[DEFAULT] non_inheritable_image_properties``
    """
    left_out = NEVER_INHERITED | _BASE_FIELDS | set(non_inheritable)
    return {
        name: value
        for name, value in base.items()
        if name not in left_out and not name.startswith('os_glance')
    }


def is_optional(name: str) -> bool:
    """Whether an image is as good without a property.

    Without one that says how a server is built from it a server may not boot,
    or may boot with less than it had: with another firmware, say, or without
    secure boot.
    """
    return name not in _DECIDING and not name.startswith(_DECIDING_PREFIXES)


def write(
    glance: Glance, image: str, properties: Mapping[str, Any]
) -> tuple[str, ...]:
    """Write properties on an image; an optional one may be refused.

    Glance refuses what is protected, what its policy or its schema does not
    allow, and what is more than its quota. All of them go in one request. Only
    where that is refused the optional ones go one by one, as no answer says
    which ones it is about.

    :returns: the names of those that were refused
    :raises GlanceError: one is refused that is not optional
    """
    try:
        glance.update(image, **properties)
    except (exception.GlanceUnavailable, exception.ImageNotFound):
        raise
    except exception.GlanceError:
        needed, optional = by_need(properties)
        if not optional:
            raise
        if needed:
            glance.update(image, **needed)
        return write_optional(glance, image, optional)
    return ()


def write_optional(
    glance: Glance, image: str, properties: Mapping[str, Any]
) -> tuple[str, ...]:
    """Write properties one by one.

    :returns: the names of those that Glance has refused
    """
    return tuple(
        name
        for name, value in properties.items()
        if not _is_taken(glance, image, name, value)
    )


def _is_taken(glance: Glance, image: str, name: str, value: Any) -> bool:
    try:
        glance.update(image, **{name: value})
    except (exception.GlanceUnavailable, exception.ImageNotFound):
        raise
    except exception.GlanceError as error:
        LOG.warning(
            'Image %s goes without the property %s, which it does not need: '
            '%s',
            image,
            name,
            error,
        )
        return False
    return True


def by_need(
    properties: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    :returns: those that an image needs, and those that are optional
    """
    needed = {n: v for n, v in properties.items() if not is_optional(n)}
    optional = {n: v for n, v in properties.items() if is_optional(n)}
    return needed, optional
