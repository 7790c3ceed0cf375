# SPDX-License-Identifier: Apache-2.0
"""A host without libnbd: qemu-img reads the export instead."""

from __future__ import annotations

import fixtures

from lab.options import GuestOptions
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.nbd import libnbd
from tests.functional import exactness


class WithoutLibnbdTest(exactness.Exactness):
    options = GuestOptions('no-libnbd')
    encodings = exactness.STREAMED[:3]

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(
            fixtures.MockPatchObject(libnbd, 'is_available', lambda: False)
        )

    def is_exact(self, encoding: Encoding) -> Snapshot:
        snapshot = super().is_exact(encoding)
        self.assertFalse(snapshot.streamed)
        self.assertEqual('libnbd is missing', snapshot.streamed_reason)
        return snapshot
