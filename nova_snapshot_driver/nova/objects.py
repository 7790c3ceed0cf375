# SPDX-License-Identifier: Apache-2.0
"""Nova's objects, as the driver knows them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import nova.conf
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import plugin
from nova import objects
from nova import service_auth
from nova.context import RequestContext
from nova.image import glance

from nova_snapshot_driver import exception
from nova_snapshot_driver.image import DEFAULT_TIMEOUT
from nova_snapshot_driver.image import GlanceAccess
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.instance import QuiescePolicy

CONF = nova.conf.CONF

#: The seconds of silence that nova-compute bears from Glance while it starts.
START_TIMEOUT = 30


def instance_of(instance: objects.Instance) -> Instance:
    """What is to be snapshotted.

    As upstream has it, an instance has an agent where its image says so.
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
    )


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


@contextlib.contextmanager
def _asking_keystone() -> Iterator[None]:
    try:
        yield
    # With an OSError requests says that a file of certificates is missing.
    except (ksa_exceptions.ClientException, OSError) as error:
        raise exception.KeystoneUnavailable(
            reason=str(error).rstrip('.')
        ) from error


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
