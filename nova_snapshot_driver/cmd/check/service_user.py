# SPDX-License-Identifier: Apache-2.0
"""The user as which Nova itself asks Keystone and Glance."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from collections.abc import Iterator
from typing import TypeVar

from keystoneauth1 import access
from keystoneauth1 import adapter
from keystoneauth1 import identity
from keystoneauth1 import loading
from keystoneauth1 import plugin
from keystoneauth1 import session
from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import bounded_http
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.common import reason

#: The seconds of silence after which Keystone counts as unreachable.
TIMEOUT = 30

#: The endpoints that Nova prefers, in this order.
INTERFACES = ['internal', 'public']

#: The role that Glance lets delete the images of others by default.
ADMIN = 'admin'

#: The consequence of sending no service token.
OUTLIVED = "an upload that outlives the user's token fails, or can't be proven"

LINES = """
[service_user]
send_service_user_token = true
auth_type = password
auth_url = http://KEYSTONE:5000/v3
username = nova
password = SECRET
user_domain_name = Default
project_name = service
project_domain_name = Default"""

Answer = TypeVar('Answer')


class ServiceUser:
    """``[service_user]`` of nova.conf.

    The settings of the session come from ``[glance]``, as in Nova. Source:
    ``nova.service_auth``, ``nova_snapshot_driver.nova.objects``.

    :param options: those of ``nova_options``
    :param timeout: the seconds of silence after which a request to Glance has
        failed
    """

    def __init__(self, options: cfg.ConfigOpts, timeout: int) -> None:
        self._options = options
        self._timeout = timeout

    @property
    def is_configured(self) -> bool:
        try:
            return self._auth() is not None
        except exception.KeystoneUnavailable:
            # A wrong configuration is one, too.
            return True

    @property
    def is_sent(self) -> bool:
        """Whether its token is sent along with that of the user who asks."""
        return bool(self._options.service_user.send_service_user_token)

    def findings(self) -> Iterator[Finding]:
        """The findings about the user: what Keystone says, what is missing."""
        if not self.is_configured:
            yield self._not_configured()
            return
        try:
            reference = self._reference()
        except exception.KeystoneUnavailable as error:
            yield Finding('Service user', Verdict.FAILURE, str(error))
            return
        yield _user(reference)
        yield self._service_token(reference)

    def glance_accesses(self) -> list[GlanceAccess]:
        """Access to each server of Glance that Nova knows.

        :raises KeystoneUnavailable: it gives no token, or knows no Glance
        """
        with_session = self._session()
        auth = self._auth()
        token = asking(lambda: with_session.get_token(auth))
        glance = asking(
            lambda: loading.load_adapter_from_conf_options(
                self._options, 'glance', session=with_session, auth=auth
            )
        )
        endpoints = self._options.glance.api_servers or [
            asking(glance.get_endpoint)
        ]
        return [self._access(endpoint, token) for endpoint in endpoints]

    def requests_to(self, service_type: str) -> adapter.Adapter:
        """Requests to a service in Nova's own region, as this user.

        :raises KeystoneUnavailable: the configuration is not valid, or nothing
            says which region that is
        """
        return adapter.Adapter(
            self._session(),
            auth=self._auth(),
            service_type=service_type,
            interface=INTERFACES,
            region_name=self._region(service_type),
        )

    def _region(self, service_type: str) -> str | None:
        """The region of this Nova; None where the catalog has but one."""
        for group in ('placement', 'keystone_authtoken'):
            if region := self._options[group].region_name:
                return str(region)
        reference = self._reference()
        if reference is None:
            return None
        found = reference.service_catalog.get_endpoints_data(service_type)
        regions = {
            str(endpoint.region_name)
            for endpoints in found.values()
            for endpoint in endpoints
        }
        if len(regions) > 1:
            raise exception.KeystoneUnavailable(
                reason=f'its catalog has a service {service_type} in '
                f'{" and ".join(sorted(regions))}, and [placement] '
                'region_name names none'
            )
        return None

    def _access(self, endpoint: str | None, token: str | None) -> GlanceAccess:
        if endpoint is None:
            raise exception.KeystoneUnavailable(
                reason='its catalog has no image service'
            )
        glance = self._options.glance
        return GlanceAccess(
            endpoint.rstrip('/').removesuffix('/v2'),
            token=token,
            service_token=token if self.is_sent else None,
            cacert=glance.cafile,
            certificate=glance.certfile,
            key=glance.keyfile,
            insecure=glance.insecure,
            timeout=self._timeout,
        )

    def _auth(self) -> plugin.BaseAuthPlugin | None:
        return asking(
            lambda: loading.load_auth_from_conf_options(
                self._options, 'service_user'
            )
        )

    def _session(self) -> session.Session:
        made = asking(
            lambda: loading.load_session_from_conf_options(
                self._options, 'glance', timeout=TIMEOUT
            )
        )
        bounded_http.bound(made.session)
        return made

    def _reference(self) -> access.AccessInfo | None:
        """The catalog and the roles of its token; None without Keystone."""
        auth, with_session = self._auth(), self._session()
        if isinstance(auth, identity.BaseIdentityPlugin):
            return asking(lambda: auth.get_access(with_session))
        asking(lambda: with_session.get_token(auth))
        return None

    def _not_configured(self) -> Finding:
        if self.is_sent:
            return Finding(
                'Service user',
                Verdict.FAILURE,
                'send_service_user_token is on, and [service_user] has no '
                'auth_type. Nova sends no service token then, and '
                f'{OUTLIVED}. Write, with values of your own:{LINES}',
            )
        return Finding(
            'Service user',
            Verdict.WARNING,
            f'[service_user] is not configured: {OUTLIVED}, and a '
            "nova-compute that starts again can't delete the images of "
            'snapshots that died with it. Write, with values of your '
            f'own:{LINES}',
        )

    def _service_token(self, reference: access.AccessInfo | None) -> Finding:
        subject = 'Service token'
        if not self.is_sent:
            return Finding(
                subject,
                Verdict.WARNING,
                f'It is not sent: {OUTLIVED}. Write in [service_user]: '
                'send_service_user_token = true',
            )
        wanted = self._options.keystone_authtoken.service_token_roles
        if reference is None:
            return Finding(subject, Verdict.SUCCESS, 'it is sent')
        roles = sorted({*wanted} & roles_of(reference))
        if roles:
            return Finding(
                subject,
                Verdict.SUCCESS,
                f'it is sent, with the role {roles[0]}',
            )
        return Finding(
            subject,
            Verdict.FAILURE,
            f'{reference.username} has not the role {" or ".join(wanted)}, '
            'without which its token counts for nothing: '
            f'{OUTLIVED}. {role_add(reference, wanted[0])}',
        )


def _user(reference: access.AccessInfo | None) -> Finding:
    subject = 'Service user'
    if reference is None:
        return Finding(subject, Verdict.SUCCESS, 'it needs no Keystone')
    name = f'{reference.username} in the project {reference.project_name}'
    if ADMIN in roles_of(reference):
        return Finding(subject, Verdict.SUCCESS, name)
    return Finding(
        subject,
        Verdict.WARNING,
        f'{name} has not the role {ADMIN}. Unless the policy of Glance lets '
        'it delete the images of others, those of snapshots that died with '
        f'nova-compute stay. {role_add(reference, ADMIN)}',
    )


def roles_of(reference: access.AccessInfo) -> set[str]:
    return set(reference.role_names or ())


def role_add(reference: access.AccessInfo, role: str) -> str:
    """The command that gives the user a role."""
    scope = (
        [
            *('--project', str(reference.project_name)),
            *('--project-domain', str(reference.project_domain_name)),
        ]
        if reference.project_name
        else ['--system', 'all']
    )
    return 'Give it that role: ' + shlex.join(
        [
            *('openstack', 'role', 'add'),
            *('--user', str(reference.username)),
            *('--user-domain', str(reference.user_domain_name)),
            *scope,
            role,
        ]
    )


def asking(question: Callable[[], Answer]) -> Answer:
    """The answer of Keystone, or of a service that it leads to.

    :raises KeystoneUnavailable: there is no answer
    """
    try:
        return question()
    # keystoneauth lets exceptions of requests and oslo.config through, and
    # raises a bare Exception at times.
    except Exception as error:
        raise exception.KeystoneUnavailable(
            reason=reason.of(error).rstrip('.')
        ) from error
