# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import types

import fixtures
import testtools

from nova_snapshot_driver.transfer.nbd import throttle


class ThrottleTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.now = 1000.0
        self.useFixture(
            fixtures.MockPatchObject(
                throttle,
                'time',
                types.SimpleNamespace(
                    monotonic=lambda: self.now, sleep=self.sleep
                ),
            )
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def take(self, rate: int, *sizes: int) -> float:
        """How long it takes."""
        begin = self.now
        bucket = throttle.Throttle(rate)
        for size in sizes:
            bucket.take(size)
        return self.now - begin

    def test_no_limit(self) -> None:
        self.assertEqual(0, self.take(0, *[1 << 30] * 9))

    def test_rate(self) -> None:
        """But for what is made up for of the time before it began."""
        taken = self.take(100, *[10] * 100)
        self.assertAlmostEqual(10 - throttle.BURST, taken)

    def test_large_piece(self) -> None:
        self.assertEqual(10 - throttle.BURST, self.take(100, 1000))

    def test_little_is_made_up_for(self) -> None:
        bucket = throttle.Throttle(100)
        bucket.take(100)
        self.now += 3600
        begin = self.now
        for _ in range(100):
            bucket.take(10)
        self.assertAlmostEqual(10 - throttle.BURST, self.now - begin)
