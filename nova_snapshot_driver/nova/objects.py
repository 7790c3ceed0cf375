# SPDX-License-Identifier: Apache-2.0
"""Nova's objects, in the words of the driver."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import nova.conf
from keystoneauth1 import loading
from keystoneauth1 import plugin
from keystoneauth1 import session
from nova import block_device
from nova import exception as nova_exception
from nova import objects
from nova import service_auth
from nova.compute import utils as compute_utils
from nova.context import RequestContext
from nova.image import glance

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import bounded_http
from nova_snapshot_driver.clients.access import ADMIN
from nova_snapshot_driver.clients.access import CINDER_TIMEOUT
from nova_snapshot_driver.clients.access import GLANCE_TIMEOUT
from nova_snapshot_driver.clients.access import CinderAccess
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.common import reason
from nova_snapshot_driver.snapshot.plan.instance import AttachedVolume
from nova_snapshot_driver.snapshot.plan.instance import BlockDevices
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.instance import QuiescePolicy
from nova_snapshot_driver.snapshot.plan.instance import Target

CONF = nova.conf.CONF

#: The image properties by which Nova knows that a guest can be frozen, and has
#: to be.
QUIESCE = ('image_hw_qemu_guest_agent', 'image_os_require_quiesce')

#: The seconds of silence that a starting nova-compute bears from Glance.
START_TIMEOUT = 30


def instance_of(
    instance: objects.Instance,
    block_devices: BlockDevices | None = None,
    target: Target = Target.IMAGE,
) -> Instance:
    """The instance that is to be snapshotted, in the driver's own class.

    As in upstream, an instance has an agent where its image says so.

    :param block_devices: of an instance whose root disk is a volume
    :param target: of the snapshot of any other one
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
        target=target,
        name=instance.display_name,
        zone=None
        if CONF.cinder.cross_az_attach
        else instance.availability_zone,
    )


def block_devices_of(
    context: RequestContext, instance: objects.Instance
) -> BlockDevices | None:
    """The block devices of an instance, as an image of it has them.

    They are in the order of their devices. Nova's libvirt driver names the
    devices of a new server in the order of the image's mapping, whatever names
    the mapping has; upstream leaves the order to the database. Source:
    ``nova.compute.api.API.snapshot_volume_backed``.

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
    # The root disk comes first, and vdb before vdaa.
    return bdm.boot_index != 0, len(name), name


def is_there(context: RequestContext, uuid: str) -> bool:
    """Whether Nova has an instance, on whatever host.

    :param context: of an administrator
    """
    try:
        objects.Instance.get_by_uuid(context, uuid)
    except nova_exception.InstanceNotFound:
        return False
    return True


def without_quiesce(instance: objects.Instance) -> objects.Instance:
    """A copy of an instance that asks for no quiescing."""
    copy = instance.obj_clone()
    copy.system_metadata = {
        name: value
        for name, value in instance.system_metadata.items()
        if name not in QUIESCE
    }
    return copy


def _image_id(value: str | None) -> str | None:
    """The id of a kernel or ramdisk; Nova has several values for none."""
    if value is None or value.strip().lower() in ('', 'none'):
        return None
    return value


class Requester:
    """The user that asks for a snapshot, with the token of Nova beside."""

    def __init__(self, context: RequestContext) -> None:
        self._context = context
        self._endpoints: Iterator[str] | None = None

    def glance_access(self) -> GlanceAccess:
        """Access to Glance; each call takes the next of its servers.

        Source: ``nova.image.glance``.

        :raises KeystoneUnavailable: there is no token, or no Glance
        """
        with _asking_keystone():
            # Nova shuffles the servers; they are taken in turn from here on.
            self._endpoints = self._endpoints or glance.get_api_servers(
                self._context
            )
            return _access(
                next(self._endpoints),
                service_auth.get_service_user_token_auth_plugin(self._context),
                self._context.global_id,
            )

    def cinder_access(self) -> CinderAccess:
        """Access to Cinder.

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

    def sees(self, project: str | None) -> bool:
        return bool(
            self._context.is_admin or self._context.project_id == project
        )


class ServiceUser:
    """Nova itself, for work that no user has asked for."""

    def glance_access(self) -> GlanceAccess:
        """Access to Glance.

        :raises KeystoneUnavailable: there is no token, or no Glance
        """
        with _asking_keystone():
            auth = service_auth.get_service_auth_plugin('service_user')
            if auth is None:
                raise exception.KeystoneUnavailable(
                    reason='[service_user] is not configured'
                )
            asking = _session('glance', GLANCE_TIMEOUT)
            endpoint = (
                (CONF.glance.api_servers or [None])[0]
                or CONF.glance.endpoint_override
                or asking.get_endpoint(
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
        """Access to Cinder, as ``[cinder]`` says, else ``[service_user]``.

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
            asking = _session('cinder', CINDER_TIMEOUT)
            access = _cinder_access(
                auth, {'project_id': asking.get_project_id(auth)}
            )
        return dataclasses.replace(
            access, timeout=min(access.timeout, START_TIMEOUT)
        )

    def sees(self, project: str | None) -> bool:
        """
        :raises KeystoneUnavailable: Keystone does not say who asks
        """
        with _asking_keystone():
            auth = service_auth.get_service_auth_plugin('service_user')
            if auth is None:
                raise exception.KeystoneUnavailable(
                    reason='[service_user] is not configured'
                )
            found = auth.get_access(_session('glance', GLANCE_TIMEOUT))
            return found.project_id == project or ADMIN in found.role_names


@contextlib.contextmanager
def _asking_keystone(
    failure: type[exception.SnapshotError] = exception.KeystoneUnavailable,
) -> Iterator[None]:
    try:
        yield
    except exception.SnapshotError:
        raise
    # keystoneauth raises a bare Exception at times, and lets exceptions of
    # requests, ssl and the configured plugin through.
    except Exception as error:
        raise failure(reason=reason.of(error).rstrip('.')) from error


def _session(group: str, timeout: float) -> session.Session:
    """A session with Keystone, as a group of nova.conf configures it.

    Nova's own session is for reading images, with another timeout.

    :param timeout: in seconds, where none is configured
    """
    made = loading.load_session_from_conf_options(
        CONF, group, timeout=CONF[group].timeout or timeout
    )
    bounded_http.bound(made.session)
    return made


def _access(
    endpoint: str | None,
    auth: plugin.BaseAuthPlugin,
    global_request_id: str | None = None,
) -> GlanceAccess:
    if endpoint is None:
        raise exception.KeystoneUnavailable(
            reason='its catalog has no image service'
        )
    asking = _session('glance', GLANCE_TIMEOUT)
    # Without Keystone there is no token for Glance.
    headers = asking.get_auth_headers(auth) or {}
    return GlanceAccess(
        endpoint.rstrip('/').removesuffix('/v2'),
        token=headers.get('X-Auth-Token'),
        service_token=headers.get('X-Service-Token'),
        cacert=CONF.glance.cafile,
        certificate=CONF.glance.certfile,
        key=CONF.glance.keyfile,
        insecure=CONF.glance.insecure,
        timeout=CONF.glance.timeout or GLANCE_TIMEOUT,
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
    asking = _session('cinder', CINDER_TIMEOUT)
    if CONF.cinder.endpoint_template:
        endpoint = CONF.cinder.endpoint_template % fields
    else:
        kind, name, interface = CONF.cinder.catalog_info.split(':')
        endpoint = asking.get_endpoint(
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
    headers = asking.get_auth_headers(auth) or {}
    return CinderAccess(
        endpoint.rstrip('/'),
        token=headers.get('X-Auth-Token'),
        service_token=headers.get('X-Service-Token'),
        cacert=CONF.cinder.cafile,
        certificate=CONF.cinder.certfile,
        key=CONF.cinder.keyfile,
        insecure=CONF.cinder.insecure,
        timeout=CONF.cinder.timeout or CINDER_TIMEOUT,
        global_request_id=global_request_id,
    )
