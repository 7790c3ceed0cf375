# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno

import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.transfer.jobs import flatten
from nova_snapshot_driver.transfer.jobs.job import Flatten
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from tests.unit.transfer.commands import Commands
from tests.unit.transfer.fake_parent import FakeParent

#: As that of Ceph 16.2.
RBD = """\
printf 'Image flatten: 1%% complete...\\rImage flatten: 50%% complete...' >&2
printf '\\rImage flatten: 100%% complete...done.\\n' >&2
"""

FULL = """\
printf 'Image flatten: 1%% complete...\\rImage flatten: 2%% complete...' >&2
echo 'failed.' >&2
echo '2026-11-27T22:30:38 7f46 -1 librbd::Flatten: error' >&2
echo 'rbd: flatten error: (28) No space left on device' >&2
exit 28
"""


class FlattenTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.commands = self.useFixture(Commands())
        self.parent = FakeParent()

    def flatten(self) -> None:
        job = Flatten(
            ('rbd', 'flatten', '--pool', 'images', '--image', 'a'), 'images/a'
        )
        self.assertEqual({}, flatten.run(job, Bounds(), self.parent))

    def test_progress(self) -> None:
        self.commands.add('rbd', RBD)
        self.flatten()
        self.assertEqual((100, 100), self.parent.told[-1])

    def test_failure(self) -> None:
        self.commands.add('rbd', FULL)
        error = self.assertRaises(exception.CephFull, self.flatten)
        self.assertEqual(errno.ENOSPC, error.fields['status'])
        self.assertIn('No space left on device', str(error))
        self.assertIn('images/a', str(error))

    def test_command_is_missing(self) -> None:
        error = self.assertRaises(exception.CommandMissing, self.flatten)
        self.assertIn('ceph-common', str(error))
