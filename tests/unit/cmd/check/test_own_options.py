# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pathlib

import ddt
import fixtures
import testtools

from nova_snapshot_driver.cmd.check import own_options
from nova_snapshot_driver.cmd.check.finding import Finding
from tests.unit import tables


@ddt.ddt
class OwnOptionsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.config = root / 'nova.conf'

    def findings(self, text: str) -> list[Finding]:
        self.config.write_text(text)
        return list(own_options.findings([str(self.config)]))

    @tables.rows(
        {
            'right': ('[snapshot]\nmethod = auto\nquiesce = require\n',),
            'other_group': ('[libvirt]\nqiesce = require\n',),
            'comment': ('[snapshot]\n# qiesce = require\n',),
            'no_group': ('[DEFAULT]\ndebug = true\n',),
        }
    )
    def test_nothing_is_wrong(self, text: str) -> None:
        self.assertEqual([], self.findings(text))

    @tables.rows(
        {
            'misspelt': ('qiesce', 'Is quiesce meant?'),
            'hyphen': ('state-directory', 'Is state_directory meant?'),
            'case': ('Quiesce', 'Is quiesce meant?'),
            'deprecated': ('path', 'called method now'),
            'deprecated_timeout': ('guest_timeout', 'is deprecated'),
        }
    )
    def test_wrong(self, name: str, detail: str) -> None:
        (finding,) = self.findings(f'[snapshot]\n{name} = 1\n')
        self.assertEqual(f'[snapshot] {name}', finding.subject)
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn(detail, finding.detail)
        self.assertIn(str(self.config), finding.detail)

    def test_nothing_is_near(self) -> None:
        (finding,) = self.findings('[snapshot]\nxyz = 1\n')
        self.assertNotIn('meant', finding.detail)

    def test_several_files(self) -> None:
        self.config.write_text('[snapshot]\nqiesce = require\n')
        other = self.config.with_name('other.conf')
        other.write_text('[snapshot]\nmetod = cold\n')
        self.assertEqual(
            ['[snapshot] qiesce', '[snapshot] metod'],
            [
                finding.subject
                for finding in own_options.findings(
                    [str(self.config), str(other)]
                )
            ],
        )
