# SPDX-License-Identifier: Apache-2.0
"""The content of Keystone: projects, users, endpoints."""

import functools
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from lab.bounded import run
from lab.cloud.configuration import REGION
from lab.cloud.settings import Settings

#: Ordinary projects, each with a user of its name.
PROJECTS = ('demo', 'other')

_SERVICE_USERS = ('glance', 'nova', 'placement')

_BOOTSTRAP_TIMEOUT = 120


def bootstrap(programs: Path, configuration: Path, settings: Settings) -> None:
    """Make the administrator in Keystone's database.

    :param programs: the directory of Keystone's programs
    :param configuration: Keystone's configuration file
    """
    run(
        [
            programs / 'keystone-manage',
            *('--config-file', configuration, 'bootstrap'),
        ],
        environment={
            'OS_BOOTSTRAP_PASSWORD': settings.passwords['admin'],
            'OS_BOOTSTRAP_PUBLIC_URL': settings.url('keystone', '/v3'),
            # The middleware of the services accepts no other endpoint.
            'OS_BOOTSTRAP_INTERNAL_URL': settings.url('keystone', '/v3'),
            'OS_BOOTSTRAP_REGION_ID': REGION,
        },
        timeout=_BOOTSTRAP_TIMEOUT,
    )


def make_identities(admin: Connection, settings: Settings) -> None:
    """Make the projects, the users and the endpoints."""
    keystone = _Keystone(admin, settings)
    for name in PROJECTS:
        keystone.make_user(name, keystone.make_project(name), 'member')
    project = keystone.make_project('service')
    for name in _SERVICE_USERS:
        keystone.make_user(name, project, 'admin', 'service')
    for kind, url in (
        ('compute', settings.url('nova-api', '/v2.1')),
        ('image', settings.url('glance')),
        ('network', settings.url('neutron')),
        ('placement', settings.url('placement')),
    ):
        keystone.make_endpoint(kind, url)


def ensure_cinder(admin: Connection, settings: Settings) -> None:
    """Make Cinder's user and endpoint, unless they are there."""
    keystone = _Keystone(admin, settings)
    if not keystone.has_endpoint('block-storage'):
        project = keystone.find_project('service')
        keystone.make_user('cinder', project, 'admin', 'service')
        keystone.make_endpoint(
            'block-storage', settings.url('cinder-api', '/v3/%(project_id)s')
        )


def remove_cinder(admin: Connection, settings: Settings) -> None:
    """Take Cinder out of the catalog: Nova asks whatever is there."""
    _Keystone(admin, settings).remove_service('block-storage')


class _Keystone:
    """Keystone, as its administrator sees it."""

    def __init__(self, admin: Connection, settings: Settings) -> None:
        # A type of the SDK that may be a proxy of version 2, which Keystone
        # lacks.
        self._identity: Any = admin.identity
        self._settings = settings

    def make_project(self, name: str) -> Any:
        return self._identity.create_project(name=name, domain_id='default')

    def find_project(self, name: str) -> Any:
        return self._identity.find_project(name, ignore_missing=False)

    def make_user(self, name: str, project: Any, *roles: str) -> None:
        """Make a user, unless an attempt that was cut off has made it."""
        identity = self._identity
        user = identity.find_user(name) or identity.create_user(
            name=name,
            password=self._settings.passwords[name],
            domain_id='default',
        )
        for role in roles:
            identity.assign_project_role_to_user(
                project, user, self._roles[role]
            )

    @functools.cached_property
    def _roles(self) -> dict[str, Any]:
        return {role.name: role for role in self._identity.roles()}

    def has_endpoint(self, kind: str) -> bool:
        services = self._identity.services(type=kind)
        return any(
            any(self._identity.endpoints(service_id=service.id))
            for service in services
        )

    def remove_service(self, kind: str) -> None:
        for service in self._identity.services(type=kind):
            self._identity.delete_service(service)

    def make_endpoint(self, kind: str, url: str) -> None:
        service = self._identity.create_service(type=kind, name=kind)
        self._identity.create_endpoint(
            service_id=service.id,
            interface='public',
            url=url,
            region_id=REGION,
        )
