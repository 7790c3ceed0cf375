# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import pathlib
import socket

import ddt
import fixtures
import requests_mock
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.cmd.check import nova_options
from nova_snapshot_driver.cmd.check import service_user
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.service_user import ServiceUser
from tests.unit import tables
from tests.unit.cmd import fake_keystone
from tests.unit.cmd.fake_keystone import PASSWORD
from tests.unit.cmd.fake_keystone import TOKEN
from tests.unit.cmd.fake_keystone import URL
from tests.unit.cmd.fake_keystone import FakeKeystone
from tests.unit.fake_glance import ENDPOINT

CREDENTIALS = f"""
auth_type = password
auth_url = {URL}
username = nova
password = {PASSWORD}
user_domain_name = Default
project_name = service
project_domain_name = Default
"""

SENT = '[service_user]\nsend_service_user_token = true\n'
CONFIGURED = f'{SENT}{CREDENTIALS}'

ROLE_ADD = (
    'openstack role add --user nova --user-domain Default '
    '--project service --project-domain Default'
)


class ServiceUserCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.config = root / 'nova.conf'
        self.mocker = requests_mock.Mocker()
        self.mocker.start()
        self.addCleanup(self.mocker.stop)
        self.keystone = FakeKeystone()
        self.keystone.roles = ['admin', 'service']
        self.keystone.mocked(self.mocker)

    def user(self, text: str) -> ServiceUser:
        self.config.write_text(text)
        loaded = conf.load([str(self.config)])
        return ServiceUser(nova_options.load(loaded), 7)

    def findings(self, text: str) -> dict[str, Finding]:
        found = self.user(text).findings()
        return {finding.subject: finding for finding in found}


@ddt.ddt
class FindingsTest(ServiceUserCase):
    def verdicts(self, text: str) -> dict[str, str]:
        return {
            name: finding.verdict
            for name, finding in self.findings(text).items()
        }

    def assert_bad(self, text: str, *details: str) -> None:
        """Check that the user is of no use, and that nothing more is said."""
        findings = self.findings(text)
        self.assertEqual(['Service user'], [*findings])
        self.assertEqual('FAILURE', findings['Service user'].verdict)
        for detail in details:
            self.assertIn(detail, findings['Service user'].detail)
        self.assertNotIn(PASSWORD, findings['Service user'].detail)

    def test_all_is_well(self) -> None:
        self.assertEqual(
            {'Service user': 'SUCCESS', 'Service token': 'SUCCESS'},
            self.verdicts(CONFIGURED),
        )

    def test_not_configured(self) -> None:
        (finding,) = self.findings('').values()
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn('outlives', finding.detail)

    def test_what_is_to_be_written(self) -> None:
        """The lines that the check advises work, once the values are right."""
        lines = service_user.LINES.replace(
            'http://KEYSTONE:5000/v3', URL
        ).replace('SECRET', PASSWORD)
        self.assertIn(
            service_user.LINES, self.findings('')['Service user'].detail
        )
        self.assertEqual(
            {'Service user': 'SUCCESS', 'Service token': 'SUCCESS'},
            self.verdicts(lines),
        )

    def test_sent_and_not_configured(self) -> None:
        self.assert_bad(SENT, 'no auth_type', service_user.LINES)

    def test_configured_and_not_sent(self) -> None:
        findings = self.findings(f'[service_user]{CREDENTIALS}')
        self.assertEqual('SUCCESS', findings['Service user'].verdict)
        self.assertEqual('WARNING', findings['Service token'].verdict)
        self.assertIn(
            'send_service_user_token = true', findings['Service token'].detail
        )

    def test_in_another_group(self) -> None:
        self.assertEqual(
            {'Service user': 'SUCCESS', 'Service token': 'SUCCESS'},
            self.verdicts(
                f'{SENT}auth_section = placement\n[placement]{CREDENTIALS}'
            ),
        )

    def test_wrong_password(self) -> None:
        self.assert_bad(
            CONFIGURED.replace(PASSWORD, 'gu3ss'), 'Go away', '[service_user]'
        )

    def test_keystone_is_away(self) -> None:
        fake_keystone.away(self.mocker)
        self.assert_bad(CONFIGURED, URL)

    @tables.rows(
        {
            'no_address': (f'auth_url = {URL}', '', 'auth_url'),
            'unknown_type': ('auth_type = password', 'auth_type = pw', 'pw'),
        }
    )
    def test_wrong(self, what: str, instead: str, detail: str) -> None:
        self.assert_bad(CONFIGURED.replace(what, instead, 1), detail)

    def test_no_certificates(self) -> None:
        """The error of requests is none of keystoneauth's."""
        self.mocker.real_http = True
        self.assert_bad(
            CONFIGURED.replace(URL, 'https://127.0.0.1:9')
            + '[glance]\ncafile = /nonexistent.pem\n',
            '/nonexistent.pem',
        )

    def test_keystone_hangs(self) -> None:
        self.useFixture(fixtures.MockPatchObject(service_user, 'TIMEOUT', 0.1))
        self.mocker.real_http = True
        with socket.create_server(('127.0.0.1', 0)) as mute:
            port = mute.getsockname()[1]
            self.assert_bad(
                CONFIGURED.replace(URL, f'http://127.0.0.1:{port}/v3'),
                'timed out',
            )

    def test_without_the_role(self) -> None:
        self.keystone.roles = ['admin']
        finding = self.findings(CONFIGURED)['Service token']
        self.assertEqual('FAILURE', finding.verdict)
        self.assertIn(f'{ROLE_ADD} service', finding.detail)

    def test_role_of_this_site(self) -> None:
        """Glance takes the roles that nova-api takes."""
        self.keystone.roles = ['admin', 'machine']
        site = '[keystone_authtoken]\nservice_token_roles = robot,machine\n'
        finding = self.findings(f'{CONFIGURED}{site}')['Service token']
        self.assertEqual('SUCCESS', finding.verdict)
        self.assertIn('machine', finding.detail)

    def test_may_not_delete(self) -> None:
        self.keystone.roles = ['service']
        finding = self.findings(CONFIGURED)['Service user']
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn(f'{ROLE_ADD} admin', finding.detail)

    def test_no_keystone(self) -> None:
        self.assertEqual(
            {'Service user': 'SUCCESS', 'Service token': 'SUCCESS'},
            self.verdicts(f'{SENT}auth_type = none\n'),
        )

    def test_secrets_are_not_logged(self) -> None:
        log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        self.findings(CONFIGURED)
        self.assertNotEqual('', log.output)
        for secret in (TOKEN, PASSWORD):
            self.assertNotIn(secret, log.output)


@ddt.ddt
class GlanceTest(ServiceUserCase):
    def endpoints(self, glance: str) -> list[str]:
        user = self.user(f'{CONFIGURED}[glance]\n{glance}\n')
        return [access.endpoint for access in user.glance_accesses()]

    def test_access(self) -> None:
        self.assertEqual(
            [
                GlanceAccess(
                    ENDPOINT, token=TOKEN, service_token=TOKEN, timeout=7
                )
            ],
            self.user(CONFIGURED).glance_accesses(),
        )

    def test_token_is_not_sent(self) -> None:
        (access,) = self.user(f'[service_user]{CREDENTIALS}').glance_accesses()
        self.assertEqual(TOKEN, access.token)
        self.assertIsNone(access.service_token)

    @tables.rows(
        {
            'catalog': ('', [ENDPOINT]),
            'interface': (
                'valid_interfaces = admin,public',
                ['http://admin.example.com'],
            ),
            'region': ('region_name = RegionOne', [ENDPOINT]),
            'override': ('endpoint_override = http://g/v2/', ['http://g']),
            'servers': (
                'api_servers = http://a:9292,https://b/image',
                ['http://a:9292', 'https://b/image'],
            ),
        }
    )
    def test_endpoint(self, glance: str, endpoints: list[str]) -> None:
        self.assertEqual(endpoints, self.endpoints(glance))

    def test_not_in_the_catalog(self) -> None:
        error = self.assertRaises(
            exception.KeystoneUnavailable,
            self.endpoints,
            'region_name = RegionTwo',
        )
        self.assertIn('image service', str(error))

    def test_certificates(self) -> None:
        (access,) = self.user(
            f'{CONFIGURED}[glance]\ncafile = /ca\ncertfile = /c\n'
            'keyfile = /k\n'
        ).glance_accesses()
        self.assertEqual('/ca', access.cacert)
        self.assertEqual('/c', access.certificate)
        self.assertEqual('/k', access.key)
        self.assertFalse(access.insecure)

    @tables.rows(
        {
            'session': ('insecure = perhaps', 'insecure'),
            'adapter': ('connect_retries = many', 'connect-retries'),
        }
    )
    def test_value_that_is_not_valid(self, glance: str, detail: str) -> None:
        error = self.assertRaises(
            exception.KeystoneUnavailable, self.endpoints, glance
        )
        self.assertIn(detail, str(error))

    def test_keystone_is_away(self) -> None:
        fake_keystone.away(self.mocker)
        self.assertRaises(
            exception.KeystoneUnavailable,
            self.user(CONFIGURED).glance_accesses,
        )
