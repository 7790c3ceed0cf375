# SPDX-License-Identifier: Apache-2.0
"""Keystone's API, version 3, as far as a command uses it."""

from __future__ import annotations

from typing import Any

import requests
import requests_mock

from tests.unit import fake_cinder
from tests.unit.fake_glance import ENDPOINT

URL = 'http://keystone.example.com:5000/v3'
TOKEN = 'gAAAAABn0token'
PASSWORD = 'pa55word'
NOVA_URL = 'http://nova.example.com:8774/v2.1'


class FakeKeystone:
    """A Keystone with one user.

    :ivar glance_url: of Glance in its catalog
    :ivar has_glance: there is one
    :ivar has_cinder: the same for Cinder
    :ivar roles: those that the user has
    :ivar nova_urls: of nova-api, by the region
    """

    def __init__(self) -> None:
        self.glance_url = ENDPOINT
        self.has_glance = True
        self.has_cinder = True
        self.roles: list[str] = []
        self.nova_urls = {'RegionOne': NOVA_URL}

    def mocked(self, mocker: requests_mock.Mocker) -> None:
        """Answer the requests that are made through ``requests``."""
        mocker.get(
            URL,
            json={
                'version': {
                    'id': 'v3.14',
                    'status': 'stable',
                    'links': [{'rel': 'self', 'href': URL}],
                }
            },
        )
        # keystoneauth looks for the versions at each address of the catalog.
        # Cinder has no such resource, and the address stands as it is.
        mocker.get(fake_cinder.ENDPOINT, status_code=404)
        mocker.post(
            f'{URL}/auth/tokens',
            json=self._token,
            headers={
                'X-Subject-Token': TOKEN,
                'Content-Type': 'application/json',
            },
        )

    def _token(self, request: Any, context: Any) -> Any:
        user = request.json()['auth']['identity']['password']['user']
        if user['password'] != PASSWORD:
            context.status_code = 401
            return {'error': {'message': 'Go away', 'code': 401}}
        image = {
            'type': 'image',
            'name': 'glance',
            'id': 'g',
            'endpoints': [
                self._endpoint('public', self.glance_url),
                self._endpoint('admin', 'http://admin.example.com'),
            ],
        }
        volume = {
            'type': 'volumev3',
            'name': 'cinder',
            'id': 'c',
            'endpoints': [self._endpoint('public', fake_cinder.ENDPOINT)],
        }
        compute = {
            'type': 'compute',
            'name': 'nova',
            'id': 'n',
            'endpoints': [
                self._endpoint('public', url, region)
                for region, url in self.nova_urls.items()
            ],
        }
        domain = {'id': 'default', 'name': 'Default'}
        return {
            'token': {
                'methods': ['password'],
                'expires_at': '2099-01-01T00:00:00.000000Z',
                'issued_at': '2026-11-20T09:00:00.000000Z',
                'user': {'id': 'u', 'name': user['name'], 'domain': domain},
                'project': {'id': 'p', 'name': 'service', 'domain': domain},
                'roles': [{'id': name, 'name': name} for name in self.roles],
                'catalog': [
                    *([image] if self.has_glance else []),
                    *([volume] if self.has_cinder else []),
                    *([compute] if self.nova_urls else []),
                ],
            }
        }

    def _endpoint(
        self, interface: str, url: str, region: str = 'RegionOne'
    ) -> dict[str, str]:
        return {
            'id': interface,
            'interface': interface,
            'region': region,
            'region_id': region,
            'url': url,
        }


def away(mocker: requests_mock.Mocker) -> None:
    """Answer no request at all."""
    mocker.register_uri(
        requests_mock.ANY,
        requests_mock.ANY,
        exc=requests.exceptions.ConnectionError('no route'),
    )
