# SPDX-License-Identifier: Apache-2.0
"""Cinder, as nova-compute reaches it for work that no user has asked for.

The snapshots of volume-backed servers are requested as their users; only those
of a nova-compute that died are deleted as a user of Nova's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Self

from keystoneauth1 import access
from keystoneauth1 import exceptions as ks_exceptions
from keystoneauth1 import identity
from keystoneauth1 import loading
from keystoneauth1 import plugin
from keystoneauth1 import session
from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import bounded_http
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.service_user import ADMIN
from nova_snapshot_driver.cmd.check.service_user import TIMEOUT
from nova_snapshot_driver.cmd.check.service_user import asking
from nova_snapshot_driver.cmd.check.service_user import role_add
from nova_snapshot_driver.cmd.check.service_user import roles_of

SUBJECT = 'Cinder'

#: A request that changes nothing, and that needs a token of the project.
REQUEST = '/limits'


@dataclasses.dataclass(frozen=True)
class VolumeService:
    """The access of ``[cinder]``, with the user of ``[service_user]`` if it
    names none.

    Source: ``nova_snapshot_driver.nova.objects.ServiceUser.cinder_access``.

    :ivar user: who asks; None without Keystone
    """

    session: session.Session
    auth: plugin.BaseAuthPlugin
    options: cfg.ConfigOpts
    user: access.AccessInfo | None

    @classmethod
    def of(cls, options: cfg.ConfigOpts) -> Self | None:
        """
        :param options: those of ``nova_options``
        :returns: None where no user is configured
        :raises KeystoneUnavailable: it gives no token
        """
        auth = _auth(options, 'cinder') or _auth(options, 'service_user')
        if auth is None:
            return None
        made = asking(
            lambda: loading.load_session_from_conf_options(
                options, 'cinder', timeout=TIMEOUT
            )
        )
        bounded_http.bound(made.session)
        user = None
        if isinstance(auth, identity.BaseIdentityPlugin):
            user = asking(lambda: auth.get_access(made))
        return cls(made, auth, options, user)

    def endpoint(self) -> str | None:
        """The address of Cinder; None if Keystone's catalog has none.

        :raises KeystoneUnavailable: the options are not valid
        """
        cinder = self.options.cinder
        if cinder.endpoint_template:
            fields = {'project_id': self.session.get_project_id(self.auth)}
            return str(asking(lambda: cinder.endpoint_template % fields))
        return asking(self._in_catalog)

    def _in_catalog(self) -> str | None:
        cinder = self.options.cinder
        kind, name, interface = cinder.catalog_info.split(':')
        try:
            endpoint: str | None = self.session.get_endpoint(
                self.auth,
                service_type=kind,
                service_name=name or None,
                interface=interface,
                region_name=cinder.os_region_name,
            )
        except ks_exceptions.CatalogException:
            return None
        return endpoint

    def refusal(self, endpoint: str) -> str | None:
        """The answer of an address, where Cinder would give another.

        :raises KeystoneUnavailable: there is no answer
        """
        answer = asking(
            lambda: self.session.get(
                f'{endpoint.rstrip("/")}{REQUEST}',
                auth=self.auth,
                raise_exc=False,
            )
        )
        if not answer.ok:
            return f'the HTTP status {answer.status_code}'
        try:
            is_cinder = 'limits' in answer.json()
        except (ValueError, TypeError):
            is_cinder = False
        return None if is_cinder else 'something that is not of Cinder'


def findings(options: cfg.ConfigOpts) -> Iterator[Finding]:
    """Whether Cinder can be reached, and a dead snapshot be cleaned up there.

    :param options: those of ``nova_options``
    """
    try:
        service = VolumeService.of(options)
        if service is None:
            yield Finding(
                SUBJECT,
                Verdict.WARNING,
                f'{NOT_KNOWN} neither [cinder] nor [service_user] has '
                'credentials, as which Cinder would be asked. A nova-compute '
                'that starts again needs them too, to delete the snapshots '
                'of volumes that died with it.',
            )
        else:
            yield _finding(service)
    except exception.KeystoneUnavailable as error:
        yield Finding(
            SUBJECT,
            Verdict.FAILURE,
            f'Cinder cannot be reached: {error.fields["reason"]}. Do [cinder] '
            'and [service_user] hold the right address and credentials?',
        )


def _finding(service: VolumeService) -> Finding:
    endpoint = service.endpoint()
    if endpoint is None:
        cinder = service.options.cinder
        region = cinder.os_region_name or 'any region'
        return Finding(
            SUBJECT,
            Verdict.WARNING,
            "Keystone's catalog has no service "
            f'{cinder.catalog_info} in {region}. In a cloud without Cinder '
            'that is right. Else correct [cinder] catalog_info and '
            'os_region_name: no volume-backed server can be snapshotted.',
        )
    if refusal := service.refusal(endpoint):
        return Finding(
            SUBJECT,
            Verdict.FAILURE,
            f'{endpoint} answers {_name(service)} with {refusal}. Is it the '
            'address of Cinder, version 3, and does the user have a role in a '
            'project?',
        )
    if service.user is not None and ADMIN not in roles_of(service.user):
        return Finding(
            SUBJECT,
            Verdict.WARNING,
            f'{endpoint} answers. {_name(service)} has not the role {ADMIN}: '
            'unless the policy of Cinder lets it see and delete the '
            'snapshots of others, those of a nova-compute that died stay. '
            f'{role_add(service.user, ADMIN)}',
        )
    return Finding(
        SUBJECT,
        Verdict.SUCCESS,
        f'{endpoint} answers {_name(service)}. A snapshot is requested as its '
        'user, whose rights and quota were not looked at',
    )


def _name(service: VolumeService) -> str:
    user = service.user
    if user is None:
        return 'without Keystone'
    return f'{user.username} in the project {user.project_name}'


def _auth(options: cfg.ConfigOpts, group: str) -> plugin.BaseAuthPlugin | None:
    return asking(lambda: loading.load_auth_from_conf_options(options, group))
