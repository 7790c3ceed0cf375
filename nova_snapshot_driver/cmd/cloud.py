# SPDX-License-Identifier: Apache-2.0
"""The cloud that the command line works for."""

from __future__ import annotations

import argparse
import os
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from openstack import exceptions as sdk_exceptions
from openstack.config import loader
from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.cinder import CinderAccess
from nova_snapshot_driver.image import GlanceAccess


class BareGlance:
    """A Glance that asks for no authentication."""

    def __init__(self, url: str, timeout: int) -> None:
        self._access = GlanceAccess(url.rstrip('/'), timeout=timeout)

    def glance_access(self) -> GlanceAccess:
        return self._access

    def cinder_access(self) -> CinderAccess:
        """
        :raises NoCloud: there is a Glance alone
        """
        raise exception.NoCloud(
            reason='--glance-url names a Glance, and the volumes are in Cinder'
        )


class Cloud:
    """A cloud of ``clouds.yaml`` or of the ``OS_*`` variables."""

    def __init__(self, region: Any, timeout: float) -> None:
        self._region = region
        self._timeout = timeout
        self._session = region.get_session()

    def glance_access(self) -> GlanceAccess:
        """The way to Glance, with a fresh token where the old one expires.

        :raises CloudUnavailable: Keystone does not answer, or knows no Glance
        """
        endpoint, token = self._of_service('image')
        return GlanceAccess(
            endpoint.rstrip('/').removesuffix('/v2'),
            token=token,
            timeout=self._timeout,
            **self._trust(),
        )

    def cinder_access(self) -> CinderAccess:
        """The way to Cinder, as that to Glance.

        :raises CloudUnavailable: Keystone does not answer, or knows no Cinder
        """
        endpoint, token = self._of_service('block-storage')
        return CinderAccess(endpoint.rstrip('/'), token=token, **self._trust())

    def _of_service(self, service: str) -> tuple[str, str]:
        """Its address, and a token for it."""
        try:
            endpoint = self._region.get_session_endpoint(service)
            token = self._session.get_token()
        # keystoneauth raises a bare Exception where a password is missing.
        except Exception as error:
            raise exception.CloudUnavailable(reason=str(error)) from error
        if endpoint is None:
            raise exception.CloudUnavailable(
                reason=f'its catalog has no {service} service'
            )
        return endpoint, token

    def _trust(self) -> dict[str, Any]:
        verify, _certificate = self._region.get_requests_verify_args()
        return {
            'cacert': verify if isinstance(verify, str) else None,
            'insecure': verify is False,
        }


def is_named(arguments: argparse.Namespace) -> bool:
    """Somebody has said which cloud it is to be."""
    return bool(
        arguments.glance_url
        or arguments.os_cloud
        or os.environ.get('OS_CLOUD')
        or os.environ.get('OS_AUTH_URL')
    )


def of(
    arguments: argparse.Namespace, conf: cfg.ConfigOpts
) -> BareGlance | Cloud:
    """The cloud that the arguments and the environment name.

    :raises NoCloud: they name none
    """
    if arguments.glance_url:
        return BareGlance(arguments.glance_url, conf.glance.timeout)
    try:
        region = loader.OpenStackConfig(
            app_name='nova-snapshot',
        ).get_one(cloud=arguments.os_cloud)
        return Cloud(region, conf.glance.timeout)
    except (
        ksa_exceptions.ClientException,
        sdk_exceptions.SDKException,
    ) as error:
        raise exception.NoCloud(reason=str(error).rstrip('.')) from error
