# SPDX-License-Identifier: Apache-2.0
"""What Keystone knows: projects, users, endpoints."""

from pathlib import Path
from typing import Any

from openstack.connection import Connection

from tests.lab.bounded import run
from tests.lab.cloud.configuration import REGION
from tests.lab.cloud.settings import Settings

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
            # The middleware of the services accepts no other one.
            'OS_BOOTSTRAP_INTERNAL_URL': settings.url('keystone', '/v3'),
            'OS_BOOTSTRAP_REGION_ID': REGION,
        },
        timeout=_BOOTSTRAP_TIMEOUT,
    )


def make_identities(admin: Connection, settings: Settings) -> None:
    """Make the projects, the users and the endpoints."""
    # By its type it may be one of version 2, which Keystone has no more.
    identity: Any = admin.identity
    roles = {role.name: role for role in identity.roles()}

    def make_user(name: str, project: Any, *role_names: str) -> None:
        user = identity.create_user(
            name=name,
            password=settings.passwords[name],
            domain_id='default',
        )
        for role in role_names:
            identity.assign_project_role_to_user(project, user, roles[role])

    for name in PROJECTS:
        project = identity.create_project(name=name, domain_id='default')
        make_user(name, project, 'member')
    project = identity.create_project(name='service', domain_id='default')
    for name in _SERVICE_USERS:
        make_user(name, project, 'admin', 'service')
    for kind, url in (
        ('compute', settings.url('nova-api', '/v2.1')),
        ('image', settings.url('glance')),
        ('network', settings.url('neutron')),
        ('placement', settings.url('placement')),
    ):
        service = identity.create_service(type=kind, name=kind)
        identity.create_endpoint(
            service_id=service.id,
            interface='public',
            url=url,
            region_id=REGION,
        )
