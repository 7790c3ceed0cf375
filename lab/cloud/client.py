# SPDX-License-Identifier: Apache-2.0
"""The client's side of the cloud: files to read, and a connection."""

from pathlib import Path

import openstack
from openstack.connection import Connection

from lab.cloud.configuration import REGION
from lab.cloud.files import write_private
from lab.cloud.identity import PROJECTS
from lab.cloud.settings import Settings

#: The newest version of Nova's API that tests rely on.
COMPUTE_API_VERSION = '2.96'

#: The clouds of clouds.yaml. Project and user have the same name.
CLOUDS = ('admin', *PROJECTS)

_CLOUD = """\
  {name}:
    auth:
      auth_url: {url}
      username: {name}
      password: {password}
      project_name: {name}
      user_domain_id: default
      project_domain_id: default
    region_name: {region}
    compute_api_version: '{version}'
    compute_default_microversion: '{version}'
"""

_OPENRC = """\
export OS_AUTH_URL={url}
export OS_USERNAME={name}
export OS_PASSWORD={password}
export OS_PROJECT_NAME={name}
export OS_USER_DOMAIN_ID=default
export OS_PROJECT_DOMAIN_ID=default
export OS_IDENTITY_API_VERSION=3
export OS_REGION_NAME={region}
export OS_COMPUTE_API_VERSION={version}
case :$PATH: in
    *:{programs}:*) ;;
    *) export PATH=$PATH:{programs} ;;
esac
"""


def connect(settings: Settings, name: str) -> Connection:
    """A connection as one of :data:`CLOUDS`."""
    return openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth_type='password',
        auth={
            'auth_url': settings.url('keystone', '/v3'),
            'username': name,
            'password': settings.passwords[name],
            'project_name': name,
            'user_domain_id': 'default',
            'project_domain_id': 'default',
        },
        region_name=REGION,
        compute_default_microversion=COMPUTE_API_VERSION,
    )


def write_client_files(
    directory: Path, programs: Path, settings: Settings
) -> None:
    """Write ``clouds.yaml``, and ``openrc-NAME`` for each cloud in it.

    :param programs: the directory of the client ``openstack``
    """
    clouds = 'clouds:\n'
    for name in CLOUDS:
        values = {
            'name': name,
            'password': settings.passwords[name],
            'programs': programs,
            'region': REGION,
            'url': settings.url('keystone', '/v3'),
            'version': COMPUTE_API_VERSION,
        }
        clouds += _CLOUD.format(**values)
        write_private(directory / f'openrc-{name}', _OPENRC.format(**values))
    write_private(directory / 'clouds.yaml', clouds)
