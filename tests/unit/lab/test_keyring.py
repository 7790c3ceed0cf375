# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import configparser
import tempfile
from pathlib import Path

import testtools

from lab.cloud.keyring import POOLS
from lab.cloud.keyring import keyring
from lab.cloud.keyring import read_key
from lab.cloud.keyring import write_keyrings


class KeyringTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        write_keyrings(self.directory)
        self.all = configparser.ConfigParser()
        text = keyring(self.directory, 'all').read_text()
        self.all.read_string(text.replace('\t', ''))

    def test_each_user_has_a_key_of_its_own(self) -> None:
        keys = set()
        for user in self.all.sections():
            key = read_key(keyring(self.directory, user))
            self.assertEqual(self.all[user]['key'], key)
            keys.add(key)
        self.assertEqual(len(self.all.sections()), len(keys))

    def test_a_key_is_one_of_aes_with_16_bytes(self) -> None:
        for user in self.all.sections():
            key = base64.b64decode(self.all[user]['key'])
            self.assertEqual((1, 16, 28), (key[0], key[10], len(key)), user)

    def test_only_root_can_read_them(self) -> None:
        for path in self.directory.iterdir():
            self.assertEqual(0o600, path.stat().st_mode & 0o777, path.name)

    def test_no_service_may_do_what_it_does_not_need(self) -> None:
        for user, pools in (
            ('client.cinder', {'volumes'}),
            ('client.glance', {'images'}),
            ('client.nova', {'images', 'vms'}),
        ):
            allowed = self.all[user]['caps osd']
            self.assertNotIn('*', allowed)
            written = {
                pool for pool in POOLS if f'profile rbd pool={pool}' in allowed
            }
            self.assertEqual(pools, written, user)
