# SPDX-License-Identifier: Apache-2.0
"""The cloud that the command line works for."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import TypeVar

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import bounded_http
from nova_snapshot_driver.clients.access import ADMIN
from nova_snapshot_driver.clients.access import CinderAccess
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.cmd.shared import current_directory
from nova_snapshot_driver.common import reason

# The SDK asks for the current directory when it is imported.
with current_directory.existing():
    from openstack.config import loader

Answer = TypeVar('Answer')


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

    def sees(self, _project: str | None) -> bool:
        return True


class Cloud:
    """A cloud of ``clouds.yaml`` or of the ``OS_*`` variables."""

    def __init__(self, region: Any, timeout: float) -> None:
        self._region = region
        self._timeout = timeout
        self._session = _asking(region.get_session)
        bounded_http.bound(self._session.session)

    def glance_access(self) -> GlanceAccess:
        """Access to Glance, with a fresh token where the old one expires.

        :raises CloudUnavailable: Keystone does not answer, or knows no Glance
        """
        endpoint, token = self._of_service('image')
        return GlanceAccess(
            endpoint.rstrip('/').removesuffix('/v2'),
            token=token,
            timeout=self._timeout,
            **_asking(self._trust),
        )

    def cinder_access(self) -> CinderAccess:
        """Access to Cinder, with a fresh token where the old one expires.

        :raises CloudUnavailable: Keystone does not answer, or knows no Cinder
        """
        endpoint, token = self._of_service('block-storage')
        return CinderAccess(
            endpoint.rstrip('/'), token=token, **_asking(self._trust)
        )

    def sees(self, project: str | None) -> bool:
        """Whether a project is that of the user, or the user an administrator.

        :raises CloudUnavailable: Keystone does not answer
        """
        found = _asking(lambda: self._session.auth.get_access(self._session))
        return found.project_id == project or ADMIN in found.role_names

    def _of_service(self, service: str) -> tuple[str, str]:
        """The endpoint of a service, and a token for it."""
        endpoint: str | None = _asking(
            lambda: self._region.get_session_endpoint(service)
        )
        token = _asking(self._session.get_token)
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


class _Warnings(logging.Handler):
    """The warnings of openstacksdk about a file that it then ignores.

    The SDK itself only raises that there is no such cloud.

    :ivar texts: each is one line
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(reason.plain(record.getMessage()))

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        logger = logging.getLogger('openstack.config')
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)


def _asking(question: Callable[[], Answer]) -> Answer:
    """
    :raises CloudUnavailable: there is no answer
    """
    try:
        return question()
    # keystoneauth raises a bare Exception where a password is missing, and
    # lets exceptions of requests, ssl and os-service-types through.
    except Exception as error:
        raise exception.CloudUnavailable(
            reason=reason.of(error).rstrip('.')
        ) from error


def is_named(arguments: argparse.Namespace) -> bool:
    """Whether the arguments or the environment name a cloud."""
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
    :raises CloudUnavailable: there is no way to authenticate there
    """
    if arguments.glance_url:
        return BareGlance(arguments.glance_url, conf.glance.timeout)
    warnings = _Warnings()
    try:
        with warnings.heard():
            region = loader.OpenStackConfig(
                app_name='nova-snapshot',
            ).get_one(cloud=arguments.os_cloud)
    # A clouds.yaml may be unreadable, no YAML, or YAML of another kind.
    except Exception as error:
        why = [reason.of(error).rstrip('.'), *warnings.texts]
        raise exception.NoCloud(reason='; '.join(why)) from error
    return Cloud(region, conf.glance.timeout)
