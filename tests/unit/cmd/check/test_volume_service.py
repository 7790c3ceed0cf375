# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pathlib
import re
from typing import Any

import ddt
import fixtures
import requests
import requests_mock
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver.cmd.check import nova_options
from nova_snapshot_driver.cmd.check import volume_service
from nova_snapshot_driver.cmd.check.finding import Finding
from tests.unit import tables
from tests.unit.cmd import fake_keystone
from tests.unit.cmd.check.test_service_user import CONFIGURED
from tests.unit.cmd.check.test_service_user import CREDENTIALS
from tests.unit.cmd.fake_keystone import PASSWORD
from tests.unit.cmd.fake_keystone import TOKEN
from tests.unit.cmd.fake_keystone import FakeKeystone
from tests.unit.fake_cinder import ENDPOINT
from tests.unit.fake_cinder import FakeCinder

CINDER = '[cinder]\n'


@ddt.ddt
class FindingsTest(testtools.TestCase):
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
        self.cinder = FakeCinder([])
        self.cinder.mocked(self.mocker)

    def findings(self, text: str = CONFIGURED) -> list[Finding]:
        self.config.write_text(text)
        loaded = conf.load([str(self.config)])
        return list(volume_service.findings(nova_options.load(loaded)))

    def assert_finding(self, verdict: str, text: str, *details: str) -> None:
        (finding,) = self.findings(text)
        self.assertEqual(verdict, finding.verdict, finding.detail)
        for detail in details:
            self.assertIn(detail, finding.detail)
        self.assertNotIn(PASSWORD, finding.detail)
        self.assertNotIn(TOKEN, finding.detail)

    def test_all_is_well(self) -> None:
        self.assert_finding(
            'SUCCESS', CONFIGURED, ENDPOINT, 'nova in the project service'
        )
        self.assertEqual(['limits_1'], self.cinder.requests)

    def test_nobody_to_ask_as(self) -> None:
        self.assert_finding('WARNING', '', 'Not known: neither [cinder] nor')

    def test_user_of_its_own(self) -> None:
        """The group [cinder] comes first, as in Nova."""
        own = CREDENTIALS.replace('username = nova', 'username = volumes')
        self.assert_finding(
            'SUCCESS', f'{CONFIGURED}{CINDER}{own}', 'volumes in the project'
        )

    def test_user_who_may_not_delete_what_others_have(self) -> None:
        self.keystone.roles = ['service']
        self.assert_finding(
            'WARNING', CONFIGURED, 'has not the role admin', 'role add'
        )

    @tables.rows(
        {
            'no_cinder': (False, '', 'volumev3::publicURL in any region'),
            'another_type': (
                True,
                'catalog_info = volumev4::publicURL',
                'volumev4::publicURL',
            ),
            'another_region': (
                True,
                'os_region_name = Atlantis',
                'in Atlantis',
            ),
        }
    )
    def test_not_in_the_catalog(
        self, is_there: bool, options: str, detail: str
    ) -> None:
        self.keystone.has_cinder = is_there
        self.assert_finding(
            'WARNING', f'{CONFIGURED}{CINDER}{options}\n', detail
        )
        self.assertEqual([], self.cinder.requests)

    def test_cinder_is_away(self) -> None:
        """Looking for its versions fails too, as it does for nova-compute."""
        self.mocker.register_uri(
            requests_mock.ANY,
            re.compile(re.escape(ENDPOINT.partition('/v3')[0])),
            exc=requests.exceptions.ConnectionError('no route'),
        )
        self.assert_finding(
            'FAILURE', CONFIGURED, 'Cinder cannot be reached', 'no route'
        )

    def test_template(self) -> None:
        self.keystone.has_cinder = False
        root = ENDPOINT.rpartition('/')[0]
        self.mocker.get(f'{root}/p/limits', json={'limits': {}})
        self.assert_finding(
            'SUCCESS',
            f'{CONFIGURED}{CINDER}endpoint_template = {root}/%(project_id)s',
            f'{root}/p answers',
        )

    @tables.rows(
        {
            'unauthorized': (401,),
            'forbidden': (403,),
            'another_service': (404,),
            'broken': (500,),
        }
    )
    def test_refusal(self, status: int) -> None:
        self.cinder.troubles['limits_1'] = lambda: (status, None)
        # keystoneauth asks again with a new token.
        self.cinder.troubles['limits_2'] = lambda: (status, None)
        self.assert_finding('FAILURE', CONFIGURED, f'HTTP status {status}')

    @tables.rows({'text': (None,), 'other': ({'versions': []},)})
    def test_answer_of_something_else(self, answer: Any) -> None:
        self.cinder.troubles['limits_1'] = lambda: (200, answer)
        self.assert_finding(
            'FAILURE', CONFIGURED, 'something that is not of Cinder'
        )

    @tables.rows(
        {
            'keystone_is_away': ('',),
            'wrong_password': (PASSWORD,),
            'no_template': ('endpoint_template = http://c/%(nothing)s',),
        }
    )
    def test_no_access(self, how: str) -> None:
        text = f'{CONFIGURED}{CINDER}'
        if how == PASSWORD:
            text = text.replace(PASSWORD, 'gu3ss')
        elif how:
            text = f'{text}{how}'
        else:
            fake_keystone.away(self.mocker)
        self.assert_finding('FAILURE', text, 'Cinder cannot be reached')
