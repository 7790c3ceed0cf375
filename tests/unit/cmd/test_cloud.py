# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import logging
import pathlib
from typing import Any

import fixtures
import requests
import requests_mock
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd import cloud
from nova_snapshot_driver.image import GlanceAccess
from tests.unit.cmd.command import NoCloud
from tests.unit.fake_glance import ENDPOINT

KEYSTONE = 'http://keystone.example.com:5000/v3'
TOKEN = 'gAAAAABn0token'
PASSWORD = 'pa55word'

VARIABLES = {
    'OS_AUTH_URL': KEYSTONE,
    'OS_USERNAME': 'alice',
    'OS_PASSWORD': PASSWORD,
    'OS_PROJECT_NAME': 'shop',
    'OS_USER_DOMAIN_NAME': 'Default',
    'OS_PROJECT_DOMAIN_NAME': 'Default',
    'OS_REGION_NAME': 'RegionOne',
}

CLOUDS = f"""\
clouds:
  plain:
    auth: &auth
      auth_url: {KEYSTONE}
      username: alice
      password: {PASSWORD}
      project_name: shop
      user_domain_name: Default
      project_domain_name: Default
    region_name: RegionOne
  trusting:
    auth: *auth
    region_name: RegionOne
    verify: false
  careful:
    auth: *auth
    region_name: RegionOne
    cacert: /etc/ssl/cloud.pem
"""


class CloudCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clouds = pathlib.Path(self.useFixture(NoCloud()).clouds)
        self.keystone = requests_mock.Mocker()
        self.keystone.start()
        self.addCleanup(self.keystone.stop)
        self.glance_url = ENDPOINT
        self.has_glance = True
        self.keystone.get(
            KEYSTONE,
            json={
                'version': {
                    'id': 'v3.14',
                    'status': 'stable',
                    'links': [{'rel': 'self', 'href': KEYSTONE}],
                }
            },
        )
        self.keystone.post(
            f'{KEYSTONE}/auth/tokens',
            json=self.token,
            headers={'X-Subject-Token': TOKEN},
        )

    def token(self, _request: Any, _context: Any) -> Any:
        image = {
            'type': 'image',
            'name': 'glance',
            'id': 'g',
            'endpoints': [
                {
                    'id': 'e',
                    'interface': 'public',
                    'region': 'RegionOne',
                    'region_id': 'RegionOne',
                    'url': self.glance_url,
                }
            ],
        }
        return {
            'token': {
                'methods': ['password'],
                'expires_at': '2099-01-01T00:00:00.000000Z',
                'issued_at': '2026-11-20T09:00:00.000000Z',
                'user': {'id': 'u', 'name': 'alice'},
                'catalog': [image] if self.has_glance else [],
            }
        }

    def set_variables(self) -> None:
        for name, value in VARIABLES.items():
            self.useFixture(fixtures.EnvironmentVariable(name, value))

    def access(
        self, os_cloud: str | None = None, glance_url: str | None = None
    ) -> GlanceAccess:
        arguments = argparse.Namespace(
            os_cloud=os_cloud, glance_url=glance_url
        )
        loaded = conf.load([], [('glance', 'timeout', 7)])
        return cloud.of(arguments, loaded).glance_access()


class AccessTest(CloudCase):
    def test_bare_glance(self) -> None:
        self.assertEqual(
            GlanceAccess('http://glance:9292', timeout=7),
            self.access(glance_url='http://glance:9292/'),
        )
        self.assertEqual([], self.keystone.request_history)

    def test_variables(self) -> None:
        self.set_variables()
        self.assertEqual(
            GlanceAccess(ENDPOINT, token=TOKEN, timeout=7), self.access()
        )

    def test_clouds_yaml(self) -> None:
        self.clouds.write_text(CLOUDS)
        self.assertEqual(
            GlanceAccess(ENDPOINT, token=TOKEN, timeout=7),
            self.access('plain'),
        )

    def test_variable_names_the_cloud(self) -> None:
        self.clouds.write_text(CLOUDS)
        self.useFixture(fixtures.EnvironmentVariable('OS_CLOUD', 'trusting'))
        self.assertTrue(self.access().insecure)

    def test_certificates(self) -> None:
        self.clouds.write_text(CLOUDS)
        self.assertEqual('/etc/ssl/cloud.pem', self.access('careful').cacert)
        self.assertFalse(self.access('careful').insecure)
        self.assertIsNone(self.access('trusting').cacert)
        self.assertTrue(self.access('trusting').insecure)

    def test_version_in_the_catalog(self) -> None:
        """Glance's client adds it itself."""
        self.set_variables()
        for url in (f'{ENDPOINT}/v2', f'{ENDPOINT}/v2/', f'{ENDPOINT}/'):
            self.glance_url = url
            self.assertEqual(ENDPOINT, self.access().endpoint)
        self.glance_url = f'{ENDPOINT}/image'
        self.assertEqual(f'{ENDPOINT}/image', self.access().endpoint)

    def test_secrets_are_not_logged(self) -> None:
        log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        self.set_variables()
        self.access()
        self.assertNotEqual('', log.output)
        for secret in (TOKEN, PASSWORD):
            self.assertNotIn(secret, log.output)


class NoCloudTest(CloudCase):
    def test_nothing_names_one(self) -> None:
        error = self.assertRaises(exception.NoCloud, self.access)
        self.assertIn('--glance-url', str(error))

    def test_unknown_cloud(self) -> None:
        self.clouds.write_text(CLOUDS)
        error = self.assertRaises(exception.NoCloud, self.access, 'missing')
        self.assertIn('missing', str(error))

    def test_password_is_missing(self) -> None:
        self.set_variables()
        self.useFixture(fixtures.EnvironmentVariable('OS_PASSWORD'))
        self.assertRaises(
            (exception.NoCloud, exception.CloudUnavailable), self.access
        )


class CloudUnavailableTest(CloudCase):
    def unavailable(self) -> str:
        self.set_variables()
        return str(self.assertRaises(exception.CloudUnavailable, self.access))

    def test_wrong_password(self) -> None:
        self.keystone.post(
            f'{KEYSTONE}/auth/tokens',
            status_code=401,
            json={'error': {'message': 'Go away', 'code': 401}},
            headers={'Content-Type': 'application/json'},
        )
        message = self.unavailable()
        self.assertIn('Go away', message)
        self.assertNotIn(PASSWORD, message)

    def test_keystone_is_away(self) -> None:
        for method in ('GET', 'POST'):
            self.keystone.register_uri(
                method,
                requests_mock.ANY,
                exc=requests.exceptions.ConnectionError,
            )
        self.unavailable()

    def test_no_glance_in_the_catalog(self) -> None:
        self.has_glance = False
        self.assertIn('image', self.unavailable())
