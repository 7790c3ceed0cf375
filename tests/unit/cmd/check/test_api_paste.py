# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pathlib

import ddt
import fixtures
import testtools

from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.cmd.check.finding import Finding
from tests.unit import tables
from tests.unit.denied import Denied

APP = '[app:osapi_compute_app_v21]\npaste.app_factory = {}\n'
LOGGED = '[filter:request_log]\nformat = 100%% %(message)s\n'


@ddt.ddt
class FindingsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        # Hide the files of the machine that runs the tests.
        self.useFixture(
            fixtures.MockPatchObject(
                api_paste, 'USUAL_DIRECTORY', str(self.root / 'usual')
            )
        )

    def findings(self, name: str = 'api-paste.ini') -> list[Finding]:
        return list(
            api_paste.findings(name, [str(self.root / 'nova' / 'nova.conf')])
        )

    def write(self, text: str, directory: str = 'nova') -> None:
        (self.root / directory).mkdir(exist_ok=True)
        (self.root / directory / 'api-paste.ini').write_text(text)

    @tables.rows(
        {
            'ours': (APP.format(api_paste.OURS), 'SUCCESS', 'to their hosts'),
            'upstream': (
                APP.format(api_paste.UPSTREAM),
                'WARNING',
                f'paste.app_factory = {api_paste.OURS}',
            ),
            'another': (APP.format('a:b'), 'FAILURE', 'a:b is neither'),
            'commented': (
                f'{APP.format(api_paste.UPSTREAM)}# paste.app_factory = '
                f'{api_paste.OURS}\n',
                'WARNING',
                'Write in',
            ),
            'elsewhere': (
                f'{APP.format(api_paste.UPSTREAM)}[app:mine]\n'
                f'paste.app_factory = {api_paste.OURS}\n',
                'FAILURE',
                'in [app:mine]',
            ),
            'no_section': (LOGGED, 'FAILURE', 'has no section'),
            'no_ini': ('{}', 'FAILURE', 'cannot be read'),
            'percent': (
                LOGGED + APP.format(api_paste.OURS),
                'SUCCESS',
                'to their hosts',
            ),
        }
    )
    def test_file(self, text: str, verdict: str, detail: str) -> None:
        self.write(text)
        (finding,) = self.findings()
        self.assertEqual(verdict, finding.verdict)
        self.assertIn(detail, finding.detail)
        self.assertIn(str(self.root / 'nova'), finding.detail)

    def test_hidden(self) -> None:
        self.write(APP.format(api_paste.OURS))
        self.useFixture(Denied(self.root / 'nova'))
        (finding,) = self.findings()
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn(
            f'Not known: {self.root}/nova/api-paste.ini cannot be read '
            '(Permission denied)',
            finding.detail,
        )

    def test_no_nova_api_here(self) -> None:
        self.assertEqual([], self.findings())

    def test_usual_directory(self) -> None:
        self.write(APP.format(api_paste.OURS), 'usual')
        (finding,) = self.findings()
        self.assertEqual('SUCCESS', finding.verdict)

    def test_absolute_name(self) -> None:
        self.write(APP.format(api_paste.OURS), 'elsewhere')
        (finding,) = self.findings(str(self.root / 'elsewhere/api-paste.ini'))
        self.assertEqual('SUCCESS', finding.verdict)
