# SPDX-License-Identifier: Apache-2.0
"""The DEBUG lines of a whole snapshot: what they tell, and what they don't."""

from __future__ import annotations

import ddt
import testtools

from tests.unit import documents
from tests.unit import tables
from tests.unit.host import DEVICES
from tests.unit.host import FakeHost

#: Secrets of the domain and of its disk, and the tokens of whoever asks.
SECRETS = ('s3cret', 'czNjcmV0', 't0ken-', 's3rvice-')

#: Calls to libvirt that every method makes one of, by the method.
CALLS = {
    'backup': ('backupBegin', 'fsFreeze', 'fsThaw'),
    'mirror': ('blockRebase', 'defineXML', 'blockJobAbort'),
    'cold': ('managedSave', 'createWithFlags'),
}


@ddt.ddt
class DebugLogTest(testtools.TestCase):
    @tables.rows({method: (method,) for method in CALLS})
    def test_snapshot(self, method: str) -> None:
        host = self.useFixture(FakeHost(DEVICES))
        host.set('snapshot', 'method', method)
        self.assertIn('s3cret', documents.inactive(DEVICES))
        host.snapshot()
        for call in CALLS[method]:
            self.assertIn(
                f'Domain {documents.NAME}: libvirt: {call}: ', host.log.output
            )
        for secret in SECRETS:
            self.assertNotIn(secret, host.log.output)
