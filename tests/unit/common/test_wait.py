# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.wait import Limit

ERROR = exception.HypervisorTimeout(
    domain='web-1',
    operation='the end',
    seconds=3,
    bound=Limit(3, 'qemu_timeout').bound,
)


class Clock(wait.Clock):
    """A clock on which nothing but sleeping takes time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(
        self, seconds: float, cancellation: Cancellation | None = None
    ) -> None:
        super().sleep(0, cancellation)
        self.now += seconds
        self.slept.append(seconds)


class ClockCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.useFixture(fixtures.MockPatchObject(wait, 'CLOCK', self.clock))


class WaitTest(ClockCase):
    def test_holds_at_once(self) -> None:
        self.assertTrue(wait.holds_within(lambda: True, 0))
        self.assertEqual([], self.clock.slept)

    def test_holds_late(self) -> None:
        looks = itertools.count()
        self.assertTrue(
            wait.holds_within(lambda: next(looks) == 3, 10, interval=2)
        )
        self.assertEqual([2, 2, 2], self.clock.slept)

    def test_never_holds(self) -> None:
        self.assertFalse(wait.holds_within(lambda: False, 3, interval=1))
        self.assertEqual(3, self.clock.now)

    def test_no_time(self) -> None:
        """The condition is looked at once all the same."""
        self.assertFalse(wait.holds_within(lambda: False, 0))
        self.assertEqual([], self.clock.slept)

    def test_cancelled(self) -> None:
        cancellation = Cancellation()
        cancellation.request('SIGTERM')
        self.assertRaises(
            exception.Cancelled,
            wait.holds_within,
            lambda: False,
            3,
            cancellation=cancellation,
        )

    def test_error(self) -> None:
        """The error names the wait, its seconds and the option."""
        error = self.assertRaises(
            exception.HypervisorTimeout, wait.until, lambda: False, 3, ERROR
        )
        for words in ('the end', '3', 'qemu_timeout'):
            self.assertIn(words, str(error))

    def test_no_error(self) -> None:
        wait.until(lambda: True, 3, ERROR)


class RealClockTest(testtools.TestCase):
    def test_sleep(self) -> None:
        clock = wait.Clock()
        began = clock.monotonic()
        clock.sleep(0.01)
        clock.sleep(0.01, Cancellation())
        self.assertGreaterEqual(clock.monotonic() - began, 0.02)
