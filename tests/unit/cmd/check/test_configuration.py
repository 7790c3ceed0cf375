# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib

import fixtures
import testtools
from oslo_config import cfg

from nova_snapshot_driver import conf
from nova_snapshot_driver.cmd.check import configuration
from nova_snapshot_driver.cmd.check.finding import Finding


class ConfigurationTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.config = self.root / 'nova.conf'
        self.config.write_text('')
        self.set_directories()

    def set_directories(self, *directories: pathlib.Path) -> None:
        """Set the directories that oslo.config reads by default."""
        self.useFixture(
            fixtures.MockPatchObject(
                cfg,
                'find_config_dirs',
                lambda *_arguments: list(map(str, directories)),
            )
        )

    def findings(
        self, *files: pathlib.Path, has_nova: bool = True
    ) -> list[Finding]:
        loaded = conf.load(list(map(str, files)))
        return list(configuration.findings(loaded, has_nova))

    def test_read(self) -> None:
        other = self.root / 'other.conf'
        other.write_text('')
        (finding,) = self.findings(self.config, other)
        self.assertEqual('SUCCESS', finding.verdict)
        self.assertEqual(f'{self.config}, {other}', finding.detail)

    def test_directory(self) -> None:
        directory = self.root / 'nova.conf.d'
        directory.mkdir()
        for name in ('b.conf', 'a.conf', '.hidden.conf', 'README'):
            (directory / name).write_text('')
        self.set_directories(directory)
        (finding,) = self.findings(self.config)
        self.assertEqual(
            f'{self.config}, {directory}/a.conf, {directory}/b.conf',
            finding.detail,
        )

    def test_none(self) -> None:
        (finding,) = self.findings()
        self.assertEqual('WARNING', finding.verdict)
        self.assertTrue(finding.detail.startswith('Not known: no nova.conf'))
        self.assertIn('--config-file', finding.detail)

    def test_none_is_needed(self) -> None:
        (finding,) = self.findings(has_nova=False)
        self.assertEqual('SUCCESS', finding.verdict)

    def test_file_of_nova_compute(self) -> None:
        """On Debian and Ubuntu it goes before nova.conf."""
        other = self.root / 'nova-compute.conf'
        other.write_text('')
        (finding,) = self.findings(self.config)
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn(
            f'--config-file {self.config} --config-file {other}',
            finding.detail,
        )
        (finding,) = self.findings(self.config, other)
        self.assertEqual('SUCCESS', finding.verdict)

    def test_hidden_directory(self) -> None:
        """oslo.config reads nothing of it, without a word."""
        directory = self.root / 'nova.conf.d'
        directory.mkdir()
        self.set_directories(directory)
        self.useFixture(
            fixtures.MockPatchObject(
                os, 'listdir', side_effect=PermissionError(13, 'Go away')
            )
        )
        _, finding = self.findings(self.config)
        self.assertEqual(f'Configuration {directory}', finding.subject)
        self.assertEqual('WARNING', finding.verdict)
        self.assertTrue(finding.detail.startswith('Not known: '))
        self.assertIn('Go away', finding.detail)
