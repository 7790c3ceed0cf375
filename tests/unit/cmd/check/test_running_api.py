# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ddt
import fixtures
import requests

from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.cmd.check import running_api
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from tests.unit import tables
from tests.unit.cmd import fake_keystone
from tests.unit.cmd.check import fake_nova_api
from tests.unit.cmd.check.test_api_paste import APP
from tests.unit.cmd.check.test_service_user import CONFIGURED
from tests.unit.cmd.check.test_service_user import ServiceUserCase
from tests.unit.cmd.fake_keystone import NOVA_URL
from tests.unit.cmd.fake_keystone import URL

OTHER_URL = 'http://other.example.com/v2.1'

#: The rest of the answer is Nova's, or that of something before it.
LANDING: dict[str, Any] = {'text': '<html>Welcome</html>'}
BUSY: dict[str, Any] = {'status_code': 503, 'text': 'busy'}
ODD: dict[str, Any] = {'json': ['extension']}
NOT_OURS: dict[str, Any] = {'json': {}}


class RunningApiCase(ServiceUserCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(
            fixtures.MockPatchObject(
                api_paste, 'USUAL_DIRECTORY', str(self.config.parent / 'usual')
            )
        )

    def write_line(self, factory: str) -> None:
        (self.config.parent / 'api-paste.ini').write_text(APP.format(factory))

    def found(self, text: str = CONFIGURED) -> list[Finding]:
        user = self.user(text)
        return list(
            running_api.findings('api-paste.ini', [str(self.config)], user)
        )

    def is_unknown(self, detail: str, text: str = CONFIGURED) -> None:
        (finding,) = self.found(text)
        self.assertEqual('WARNING', finding.verdict)
        self.assertTrue(finding.detail.startswith(NOT_KNOWN), finding.detail)
        self.assertIn(detail, finding.detail)


@ddt.ddt
class FindingsTest(RunningApiCase):
    @tables.rows(
        {
            'line_and_loaded': (api_paste.OURS, '1.2', 'SUCCESS', '1.2'),
            'line_and_not_loaded': (
                api_paste.OURS,
                None,
                'WARNING',
                'Restart nova-api',
            ),
            'no_line_and_loaded': (
                api_paste.UPSTREAM,
                '1.2',
                'WARNING',
                'restart nova-api before the package is uninstalled',
            ),
            'neither': (api_paste.UPSTREAM, None, 'SUCCESS', 'has not loaded'),
            'no_file_and_loaded': (None, '1.2', 'SUCCESS', '1.2'),
            'no_file_and_not_loaded': (
                None,
                None,
                'SUCCESS',
                'has not loaded',
            ),
        }
    )
    def test_file_and_process(
        self, factory: str | None, loaded: str | None, verdict: str, words: str
    ) -> None:
        if factory is not None:
            self.write_line(factory)
        fake_nova_api.answers(self.mocker, loaded)
        (finding,) = self.found()
        self.assertEqual(verdict, finding.verdict)
        self.assertIn(
            f'The nova-api that answered at {NOVA_URL}', str(finding)
        )
        self.assertIn(words, finding.detail)

    def test_nothing_of_nova_is_here(self) -> None:
        self.assertEqual([], self.found(''))

    def test_no_service_user(self) -> None:
        self.write_line(api_paste.OURS)
        self.is_unknown('[service_user] is not configured', '')

    def test_file_cannot_be_read(self) -> None:
        """The process alone is told then, and the file by its own finding."""
        (self.config.parent / 'api-paste.ini').write_text('no ini')
        fake_nova_api.answers(self.mocker, '1.2')
        (finding,) = self.found()
        self.assertEqual('SUCCESS', finding.verdict)


@ddt.ddt
class AskTest(RunningApiCase):
    @tables.rows(
        {
            'landing_page': (LANDING, 'not answered as Nova does'),
            'busy': (BUSY, 'HTTP status 503'),
            'odd_json': (ODD, 'not answered as Nova does'),
            'other_json': (NOT_OURS, 'not answered as Nova does'),
        }
    )
    def test_somebody_else_answers(
        self, how: dict[str, Any], detail: str
    ) -> None:
        fake_nova_api.answers(self.mocker, None, **how)
        self.is_unknown(detail)

    def test_header_counts_in_a_fault_too(self) -> None:
        fake_nova_api.answers(self.mocker, '1.2', **BUSY)
        self.assertEqual('SUCCESS', self.found()[0].verdict)

    def test_header_is_plain_text(self) -> None:
        fake_nova_api.answers(self.mocker, '1.2\x1b[31m')
        self.assertNotIn('\x1b', self.found()[0].detail)

    def test_away(self) -> None:
        self.user(CONFIGURED)
        self.mocker.get(
            f'{NOVA_URL}{running_api.REQUEST}',
            exc=requests.exceptions.ConnectionError('no route'),
        )
        self.is_unknown(f'{NOVA_URL} does not answer')

    def test_keystone_is_away(self) -> None:
        fake_keystone.away(self.mocker)
        self.is_unknown(URL)

    def test_not_in_the_catalog(self) -> None:
        self.keystone.nova_urls = {}
        self.is_unknown('endpoint for compute service not found')

    def test_regions_and_no_telling(self) -> None:
        self.keystone.nova_urls['RegionTwo'] = OTHER_URL
        self.is_unknown('RegionOne and RegionTwo')

    @tables.rows(
        {
            'placement': ('[placement]',),
            'keystone_authtoken': ('[keystone_authtoken]',),
            'the_former_wins': (
                '[keystone_authtoken]\nregion_name=RegionOne\n[placement]',
            ),
        }
    )
    def test_region_of_nova(self, group: str) -> None:
        self.keystone.nova_urls['RegionTwo'] = OTHER_URL
        fake_nova_api.answers(self.mocker, None)
        fake_nova_api.answers(self.mocker, '1.2', OTHER_URL)
        (finding,) = self.found(
            f'{CONFIGURED}{group}\nregion_name = RegionTwo\n'
        )
        self.assertIn(OTHER_URL, finding.detail)
        self.assertEqual('SUCCESS', finding.verdict)

    def test_no_keystone(self) -> None:
        """A user without Keystone has no catalog."""
        self.is_unknown(
            'no compute service',
            '[service_user]\nauth_type = none\n',
        )
