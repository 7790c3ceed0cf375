# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pathlib
from unittest import mock

import ddt
import fixtures
import testtools

from nova_snapshot_driver.cmd.check import units
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from tests.unit import tables

DROP_IN = 'etc/nova-compute.service.d/override.conf'


@ddt.ddt
class UnitsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        (self.root / 'usr').mkdir()
        (self.root / 'lib').symlink_to('usr')
        self.useFixture(
            fixtures.MockPatchObject(
                units,
                'DIRECTORIES',
                [str(self.root / name) for name in ('etc', 'lib', 'usr')],
            )
        )

    def write(self, text: str, name: str = DROP_IN) -> pathlib.Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'[Service]\n{text}\n')
        return path

    def found(self) -> list[Finding]:
        return list(units.findings())

    @tables.rows(
        {
            'tolerated': (
                'ExecStopPost=-/usr/bin/nova-snapshot recover',
                'WARNING',
            ),
            'not_tolerated': (
                'ExecStopPost=/usr/bin/nova-snapshot recover',
                'FAILURE',
            ),
            'two_prefixes': (
                'ExecStopPost=+-/usr/bin/nova-snapshot recover',
                'WARNING',
            ),
            'option_with_a_dash': (
                'ExecStart=/usr/bin/nova-snapshot create -c x y',
                'FAILURE',
            ),
            'shell': (
                'ExecStart=/bin/sh -c "/opt/nova/bin/nova-snapshot status"',
                'FAILURE',
            ),
            'spaces': ('ExecStopPost = -nova-snapshot recover', 'WARNING'),
        }
    )
    def test_line(self, line: str, verdict: str) -> None:
        path = self.write(line)
        (finding,) = self.found()
        self.assertEqual(verdict, finding.verdict)
        self.assertIn(str(path), finding.detail)
        self.assertIn(line, finding.detail)

    @tables.rows(
        {
            'comment': ('#ExecStopPost=/usr/bin/nova-snapshot recover',),
            'another_command': ('ExecStart=/usr/bin/nova-snapshotter',),
            'words': ('Description=nova-snapshot',),
        }
    )
    def test_no_line(self, line: str) -> None:
        self.write(line)
        self.assertEqual([], self.found())

    def test_file_that_is_no_unit(self) -> None:
        self.write('ExecStart=/usr/bin/nova-snapshot', 'etc/x.service.bak')
        self.assertEqual([], self.found())

    def test_directory_with_two_names(self) -> None:
        self.write('ExecStart=nova-snapshot', 'usr/nova-compute.service')
        self.assertEqual(1, len(self.found()))

    def test_link_to_nowhere(self) -> None:
        (self.root / 'usr/x.service').symlink_to('/nonexistent')
        self.assertEqual([], self.found())

    def test_unreadable_unit(self) -> None:
        path = self.write('ExecStart=nova-snapshot')
        denied = PermissionError(13, 'Permission denied', str(path))
        with mock.patch('builtins.open', autospec=True, side_effect=denied):
            (finding,) = self.found()
        self.assertEqual('WARNING', finding.verdict)
        self.assertTrue(finding.detail.startswith(NOT_KNOWN))
        self.assertIn(str(path), finding.detail)

    def test_unreadable_directory(self) -> None:
        denied = PermissionError(13, 'Permission denied', '/a/directory')
        with mock.patch('os.scandir', autospec=True, side_effect=denied):
            found = self.found()
        self.assertEqual({'WARNING'}, {each.verdict for each in found})
        self.assertIn('/a/directory', found[0].detail)
