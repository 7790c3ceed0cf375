# SPDX-License-Identifier: Apache-2.0
"""The command on a host without libvirt-python, such as that of nova-api."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import ddt
import fixtures
import testtools

from tests.unit import tables

PATIENCE = 60

#: A module that is None can't be imported.
PROGRAM = """\
import sys
sys.modules['libvirt'] = None
from nova_snapshot_driver.cmd import main
sys.exit(main.main(sys.argv[1:]))
"""


@ddt.ddt
class WithoutLibvirtTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        (self.root / 'nova.conf').touch()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, '-c', PROGRAM, *arguments),
                *('--config-file', str(self.root / 'nova.conf')),
                *('--state-directory', str(self.root)),
                *('--snapshots-directory', str(self.root)),
                *('--format', 'json'),
            ],
            env={**os.environ, 'HOME': str(self.root)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    @tables.rows({'create': ('create', 'web-1'), 'recover': ('recover',)})
    def test_needs_it(self, *arguments: str) -> None:
        done = self.command(*arguments)
        self.assertEqual(1, done.returncode)
        error = json.loads(done.stdout)['error']
        self.assertEqual('libvirt-missing', error['code'])
        self.assertEqual({'python': sys.executable}, error['fields'])

    def test_check_says_so_among_the_rest(self) -> None:
        done = self.command('check')
        self.assertEqual(1, done.returncode)
        found = {each['subject']: each for each in json.loads(done.stdout)}
        self.assertEqual('FAILURE', found['libvirt']['verdict'])
        self.assertIn('libvirt-python', found['libvirt']['detail'])
        self.assertIn('State directory', found)

    def test_status_needs_none(self) -> None:
        self.assertEqual(0, self.command('status').returncode)
