# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import tempfile
from pathlib import Path

import testtools

from lab.cloud.settings import ACCOUNTS
from lab.cloud.settings import LISTENERS
from lab.cloud.settings import Settings


class SettingsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name, 'settings.json')

    def test_each_listener_has_a_port_of_its_own(self) -> None:
        Settings.write(self.path)
        settings = Settings.read(self.path)
        self.assertEqual(set(LISTENERS), set(settings.ports))
        self.assertEqual(set(ACCOUNTS), set(settings.passwords))
        self.assertEqual(len(LISTENERS), len(set(settings.ports.values())))

    def test_what_was_chosen_stays(self) -> None:
        Settings.write(self.path)
        before = Settings.read(self.path)
        Settings.write(self.path)
        self.assertEqual(before, Settings.read(self.path))

    def test_what_an_older_cloud_lacks_is_chosen(self) -> None:
        Settings.write(self.path)
        before = Settings.read(self.path)
        older = json.loads(self.path.read_text())
        del older['ports']['ceph'], older['passwords']['cinder']
        self.path.write_text(json.dumps(older))
        Settings.write(self.path)
        after = Settings.read(self.path)
        self.assertEqual(set(LISTENERS), set(after.ports))
        self.assertEqual(set(ACCOUNTS), set(after.passwords))
        del before.ports['ceph'], after.ports['ceph']
        self.assertEqual(before.ports, after.ports)
        self.assertEqual(0o600, self.path.stat().st_mode & 0o777)
