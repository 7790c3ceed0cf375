# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import logging
import pathlib

import ddt
import fixtures
import requests_mock
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import CinderAccess
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.cmd.shared import cloud
from tests.unit import fake_cinder
from tests.unit import tables
from tests.unit.cmd import fake_keystone
from tests.unit.cmd.command import NoCloud
from tests.unit.cmd.fake_keystone import PASSWORD
from tests.unit.cmd.fake_keystone import TOKEN
from tests.unit.cmd.fake_keystone import URL
from tests.unit.cmd.fake_keystone import FakeKeystone
from tests.unit.fake_glance import ENDPOINT

WRONG = 'gu3ss'

VARIABLES = {
    'OS_AUTH_URL': URL,
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
      auth_url: {URL}
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
        self.fake = FakeKeystone()
        self.fake.mocked(self.keystone)

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
            self.fake.glance_url = url
            self.assertEqual(ENDPOINT, self.access().endpoint)
        self.fake.glance_url = f'{ENDPOINT}/image'
        self.assertEqual(f'{ENDPOINT}/image', self.access().endpoint)

    def test_secrets_are_not_logged(self) -> None:
        log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        self.set_variables()
        self.access()
        self.assertNotEqual('', log.output)
        for secret in (TOKEN, PASSWORD):
            self.assertNotIn(secret, log.output)


class CinderTest(CloudCase):
    def cinder(self, os_cloud: str | None = None) -> CinderAccess:
        arguments = argparse.Namespace(os_cloud=os_cloud, glance_url=None)
        return cloud.of(arguments, conf.load([])).cinder_access()

    def test_variables(self) -> None:
        self.set_variables()
        self.assertEqual(
            CinderAccess(fake_cinder.ENDPOINT, token=TOKEN), self.cinder()
        )

    def test_certificates(self) -> None:
        self.clouds.write_text(CLOUDS)
        self.assertEqual('/etc/ssl/cloud.pem', self.cinder('careful').cacert)
        self.assertTrue(self.cinder('trusting').insecure)

    def test_no_cinder_in_the_catalog(self) -> None:
        self.set_variables()
        self.fake.has_cinder = False
        error = self.assertRaises(exception.CloudUnavailable, self.cinder)
        self.assertIn('block-storage', str(error))


@ddt.ddt
class NoCloudTest(CloudCase):
    def test_nothing_names_one(self) -> None:
        error = self.assertRaises(exception.NoCloud, self.access)
        self.assertIn('--glance-url', str(error))

    def test_unknown_cloud(self) -> None:
        self.clouds.write_text(CLOUDS)
        error = self.assertRaises(exception.NoCloud, self.access, 'missing')
        self.assertIn('missing', str(error))

    @tables.rows(
        {
            'no_yaml': (b'clouds: [\n', 'clouds.yaml: while parsing'),
            'binary': (b'\xff\xfe', 'clouds.yaml: .*decode'),
            'list': (b'- a\n', 'clouds.yaml .* not a valid mapping'),
            'number': (b'clouds: 5\n', 'int'),
            'number_as_auth': (b'clouds: {a: {auth: 5}}\n', 'int'),
            'no_plugin': (
                b'clouds: {a: {auth_type: zigzag, auth: {}}}\n',
                'zigzag',
            ),
        }
    )
    def test_clouds_yaml_is_none(self, content: bytes, why: str) -> None:
        self.clouds.write_bytes(content)
        error = self.assertRaises(exception.NoCloud, self.access, 'a')
        self.assertRegex(str(error), why)
        self.assertTrue(str(error).isprintable())

    def test_password_is_missing(self) -> None:
        self.set_variables()
        self.useFixture(fixtures.EnvironmentVariable('OS_PASSWORD'))
        self.assertRaises(
            (exception.NoCloud, exception.CloudUnavailable), self.access
        )


class CloudUnavailableTest(CloudCase):
    def setUp(self) -> None:
        super().setUp()
        self.set_variables()

    def unavailable(self) -> str:
        return str(self.assertRaises(exception.CloudUnavailable, self.access))

    def test_wrong_password(self) -> None:
        self.useFixture(fixtures.EnvironmentVariable('OS_PASSWORD', WRONG))
        message = self.unavailable()
        self.assertIn('Go away', message)
        self.assertNotIn(WRONG, message)

    def test_keystone_is_away(self) -> None:
        fake_keystone.away(self.keystone)
        self.unavailable()

    def test_no_glance_in_the_catalog(self) -> None:
        self.fake.has_glance = False
        self.assertIn('image', self.unavailable())
