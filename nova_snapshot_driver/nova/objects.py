# SPDX-License-Identifier: Apache-2.0
"""Nova's objects, as the driver knows them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import nova.conf
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import plugin
from nova import block_device
from nova import objects
from nova import service_auth
from nova.compute import utils as compute_utils
from nova.context import RequestContext
from nova.image import glance

from nova_snapshot_driver import cinder
from nova_snapshot_driver import exception
from nova_snapshot_driver.cinder import CinderAccess
from nova_snapshot_driver.image import DEFAULT_TIMEOUT
from nova_snapshot_driver.image import GlanceAccess
from nova_snapshot_driver.instance import AttachedVolume
from nova_snapshot_driver.instance import BlockDevices
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.instance import QuiescePolicy

CONF = nova.conf.CONF

#: By what Nova knows that a guest can be frozen, and that it has to be.
QUIESCE = ('image_hw_qemu_guest_agent', 'image_os_require_quiesce')

#: The seconds of silence that nova-compute bears from Glance while it starts.
START_TIMEOUT = 30


def instance_of(
    instance: objects.Instance, block_devices: BlockDevices | None = None
) -> Instance:
    """What is to be snapshotted.

    As upstream has it, an instance has an agent where its image says so.

    :param block_devices: of an instance whose root disk is a volume
    """
    image = instance.image_meta
    required = image.properties.get('os_require_quiesce', False)
    return Instance(
        domain=instance.uuid,
        project_id=instance.project_id,
        os_type=instance.os_type or None,
        kernel_id=_image_id(instance.kernel_id),
        ramdisk_id=_image_id(instance.ramdisk_id),
        container_format=image.container_format
        if image.obj_attr_is_set('container_format')
        else 'bare',
        quiesce=QuiescePolicy.REQUIRE if required else None,
        guest_agent=image.properties.get('hw_qemu_guest_agent', False),
        block_devices=block_devices,
    )


def block_devices_of(
    context: RequestContext, instance: objects.Instance
) -> BlockDevices | None:
    """The block devices of an instance, as an image of it has them.

    They are in the order of their devices. Nova's libvirt driver names those
    of a new server anew, in the order of the image's mapping, whatever the
    names in it; upstream leaves that order to the database.
    Source: ``nova.compute.api.API.snapshot_volume_backed``.

    :returns: None where its root disk is no volume
    """
    bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
        context, instance.uuid
    )
    if not compute_utils.is_volume_backed_instance(context, instance, bdms):
        return None
    volumes, others = [], []
    for bdm in sorted(bdms, key=_place):
        if bdm.no_device:
            continue
        if bdm.is_volume:
            mapping = block_device.snapshot_from_bdm(None, bdm)
            volumes.append(
                AttachedVolume(bdm.volume_id, mapping.get_image_mapping())
            )
        else:
            others.append(bdm.get_image_mapping())
    return BlockDevices(tuple(volumes), tuple(others))


def _place(bdm: objects.BlockDeviceMapping) -> tuple[bool, int, str]:
    name = bdm.device_name or ''
    # The root disk is the first one, and vdb is before vdaa.
    return bdm.boot_index != 0, len(name), name


def without_quiesce(instance: objects.Instance) -> objects.Instance:
    """The same instance, to be snapshotted as it stands."""
    copy = instance.obj_clone()
    copy.system_metadata = {
        name: value
        for name, value in instance.system_metadata.items()
        if name not in QUIESCE
    }
    return copy


def _image_id(value: str | None) -> str | None:
    """An instance without a kernel of its own has one of several nothings."""
    if value is None or value.strip().lower() in ('', 'none'):
        return None
    return value


class Requester:
    """Who asks for a snapshot: the user's token, and that of Nova itself."""

    def __init__(self, context: RequestContext) -> None:
        self._context = context
        self._endpoints: Iterator[str] | None = None

    def glance_access(self) -> GlanceAccess:
        """The way to Glance; each call takes the next of its servers.

        Source: ``nova.image.glance``.

        :raises KeystoneUnavailable: it gives no token, or knows no Glance
        """
        with _asking_keystone():
            # They are shuffled there, and then taken in turn.
            self._endpoints = self._endpoints or glance.get_api_servers(
                self._context
            )
            return _access(
                next(self._endpoints),
                service_auth.get_service_user_token_auth_plugin(self._context),
                self._context.global_id,
            )

    def cinder_access(self) -> CinderAccess:
        """The way to Cinder.

        Source: ``nova.volume.cinder``.

        :raises CinderAccessUnavailable: Keystone gives no token, or knows no
            Cinder
        """
        context = self._context
        with _asking_keystone(exception.CinderAccessUnavailable):
            own = None
            if context.is_admin and not context.auth_token:
                own = service_auth.get_service_auth_plugin('cinder')
            return _cinder_access(
                service_auth.get_service_user_token_auth_plugin(
                    context, user_auth=own
                ),
                context.to_dict(),
                context.global_id,
            )


class ServiceUser:
    """Nova itself, where no user asks."""

    def glance_access(self) -> GlanceAccess:
        """The way to Glance.

        :raises KeystoneUnavailable: it gives no token, or knows no Glance
        """
        with _asking_keystone():
            auth = service_auth.get_service_auth_plugin('service_user')
            if auth is None:
                raise exception.KeystoneUnavailable(
                    reason='[service_user] is not configured'
                )
            session = service_auth.get_service_auth_session('glance')
            endpoint = (
                (CONF.glance.api_servers or [None])[0]
                or CONF.glance.endpoint_override
                or session.get_endpoint(
                    auth,
                    service_type='image',
                    region_name=CONF.glance.region_name,
                    interface=CONF.glance.valid_interfaces,
                )
            )
            access = _access(endpoint, auth)
        return dataclasses.replace(
            access, timeout=min(access.timeout, START_TIMEOUT)
        )

    def cinder_access(self) -> CinderAccess:
        """The way to Cinder, as ``[cinder]`` says, else ``[service_user]``.

        :raises CinderAccessUnavailable: Keystone gives no token, or knows no
            Cinder
        """
        with _asking_keystone(exception.CinderAccessUnavailable):
            auth = service_auth.get_service_auth_plugin(
                'cinder'
            ) or service_auth.get_service_auth_plugin('service_user')
            if auth is None:
                raise exception.CinderAccessUnavailable(
                    reason='neither [cinder] nor [service_user] has '
                    'credentials'
                )
            session = service_auth.get_service_auth_session('cinder')
            access = _cinder_access(
                auth, {'project_id': session.get_project_id(auth)}
            )
        return dataclasses.replace(
            access, timeout=min(access.timeout, START_TIMEOUT)
        )


@contextlib.contextmanager
def _asking_keystone(
    failure: type[exception.SnapshotError] = exception.KeystoneUnavailable,
) -> Iterator[None]:
    try:
        yield
    # With an OSError requests says that a file of certificates is missing.
    except (ksa_exceptions.ClientException, OSError) as error:
        raise failure(reason=str(error).rstrip('.')) from error


def _access(
    endpoint: str | None,
    auth: plugin.BaseAuthPlugin,
    global_request_id: str | None = None,
) -> GlanceAccess:
    if endpoint is None:
        raise exception.KeystoneUnavailable(
            reason='its catalog has no image service'
        )
    session = service_auth.get_service_auth_session('glance')
    # Where Glance runs without Keystone nobody has a token.
    headers = session.get_auth_headers(auth) or {}
    return GlanceAccess(
        endpoint.rstrip('/').removesuffix('/v2'),
        token=headers.get('X-Auth-Token'),
        service_token=headers.get('X-Service-Token'),
        cacert=CONF.glance.cafile,
        certificate=CONF.glance.certfile,
        key=CONF.glance.keyfile,
        insecure=CONF.glance.insecure,
        timeout=CONF.glance.timeout or DEFAULT_TIMEOUT,
        global_request_id=global_request_id,
    )


def _cinder_access(
    auth: plugin.BaseAuthPlugin,
    fields: dict[str, Any],
    global_request_id: str | None = None,
) -> CinderAccess:
    """
    :param fields: what the address of Cinder may depend on
    """
    session = service_auth.get_service_auth_session('cinder')
    if CONF.cinder.endpoint_template:
        endpoint = CONF.cinder.endpoint_template % fields
    else:
        kind, name, interface = CONF.cinder.catalog_info.split(':')
        endpoint = session.get_endpoint(
            auth,
            service_type=kind,
            service_name=name or None,
            interface=interface,
            region_name=CONF.cinder.os_region_name,
        )
    if endpoint is None:
        raise exception.CinderAccessUnavailable(
            reason='its catalog has no volume service as [cinder] '
            'catalog_info says'
        )
    headers = session.get_auth_headers(auth) or {}
    return CinderAccess(
        endpoint.rstrip('/'),
        token=headers.get('X-Auth-Token'),
        service_token=headers.get('X-Service-Token'),
        cacert=CONF.cinder.cafile,
        certificate=CONF.cinder.certfile,
        key=CONF.cinder.keyfile,
        insecure=CONF.cinder.insecure,
        timeout=CONF.cinder.timeout or cinder.DEFAULT_TIMEOUT,
        global_request_id=global_request_id,
    )
