# SPDX-License-Identifier: Apache-2.0
"""Keystone, as far as nova-compute asks it for a token of its own."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import fixtures
import nova.conf
import requests_mock
from keystoneauth1 import fixture as ksa_fixture
from keystoneauth1 import loading
from oslo_config import fixture as config_fixture

URL = 'http://keystone.example.com:5000'

#: The name under which Nova's catalog has Glance.
NAME = 'nova'
PASSWORD = 'n0va'
REGION = 'RegionOne'
PUBLIC = 'http://public.example.com:9292'
INTERNAL = 'http://internal.example.com:9292'

#: The endpoint of Cinder, which has no project in its URL.
CINDER = 'http://cinder.example.com:8776/v3'


class FakeKeystone(fixtures.Fixture):
    """A Keystone that knows one user, and what ``[service_user]`` says of it.

    :ivar tokens: those that it gave, oldest first
    :ivar lifetime: of the next ones, in seconds
    :ivar has_image_service: its catalog has an image service
    :ivar has_volume_service: the same for volumes
    :ivar roles: that the user has in its project
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[str] = []
        self.lifetime = 3600
        self.has_image_service = True
        self.has_volume_service = True
        self.roles = ['admin', 'service']

    def _setUp(self) -> None:
        self._mocker = requests_mock.Mocker(real_http=True)
        self._mocker.start()
        self.addCleanup(self._mocker.stop)
        self.is_well_again()

    def configure(self) -> None:
        """Have ``[service_user]`` say how to log in."""
        conf = self.useFixture(config_fixture.Config(nova.conf.CONF))
        # Options of the plugin, one of which is required even without
        # Keystone.
        conf.register_opts(
            loading.get_auth_plugin_conf_options('password'),
            group='service_user',
        )
        for option, value in {
            'auth_type': 'password',
            'auth_url': URL,
            'username': NAME,
            'password': PASSWORD,
            'user_domain_name': 'Default',
            'project_name': 'service',
            'project_domain_name': 'Default',
        }.items():
            conf.conf.set_override(option, value, group='service_user')

    def is_well_again(self) -> None:
        """Answer as Keystone does."""
        self._mocker.get(
            URL, json=ksa_fixture.DiscoveryList(href=URL, v2=False)
        )
        self._mocker.post(f'{URL}/v3/auth/tokens', json=self._authenticate)

    def is_in_trouble(self, **answer: Any) -> None:
        """Answer so, from now on."""
        for url in (URL, f'{URL}/v3/auth/tokens'):
            self._mocker.register_uri(requests_mock.ANY, url, **answer)

    def _authenticate(self, request: Any, context: Any) -> dict[str, Any]:
        identity = request.json()['auth']['identity']
        user = identity['password']['user']
        if (user['name'], user['password']) != (NAME, PASSWORD):
            context.status_code = 401
            return {'error': {'message': 'Unauthorized'}}
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        token = ksa_fixture.V3Token(
            expires=now + datetime.timedelta(seconds=self.lifetime)
        )
        token.set_project_scope()
        for role in self.roles:
            token.add_role(name=role)
        token.add_service('identity').add_standard_endpoints(
            public=URL, region=REGION
        )
        if self.has_image_service:
            token.add_service('image').add_standard_endpoints(
                public=PUBLIC, internal=INTERNAL, region=REGION
            )
        if self.has_volume_service:
            token.add_service('volumev3').add_standard_endpoints(
                public=CINDER, region=REGION
            )
        self.tokens.append(f'a-token-of-nova-{uuid.uuid4()}')
        context.status_code = 201
        context.headers['X-Subject-Token'] = self.tokens[-1]
        return dict(token)
