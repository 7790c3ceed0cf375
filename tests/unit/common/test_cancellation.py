# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import cancellation as module
from nova_snapshot_driver.common.cancellation import Cancellation


class CancellationTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.cancellation = Cancellation()

    def test_not_requested(self) -> None:
        self.cancellation.check()
        self.cancellation.sleep(0)

    def test_requested(self) -> None:
        self.cancellation.request('SIGTERM')
        error = self.assertRaises(exception.Cancelled, self.cancellation.check)
        self.assertIn('SIGTERM', str(error))
        self.assertRaises(exception.Cancelled, self.cancellation.sleep, 60)

    def test_first_reason_counts(self) -> None:
        self.cancellation.request('SIGINT')
        self.cancellation.request('SIGTERM')
        error = self.assertRaises(exception.Cancelled, self.cancellation.check)
        self.assertIn('SIGINT', str(error))

    def test_sleeper_is_woken(self) -> None:
        timer = threading.Timer(0.01, self.cancellation.request, ('SIGINT',))
        timer.start()
        self.addCleanup(timer.join)
        began = time.monotonic()
        self.assertRaises(exception.Cancelled, self.cancellation.sleep, 60)
        self.assertLess(time.monotonic() - began, 30)

    def test_sleep_lasts(self) -> None:
        """Also where it is longer than it takes to look outside."""
        self.useFixture(
            fixtures.MockPatchObject(module, 'LOOK_INTERVAL', 0.01)
        )
        began = time.monotonic()
        self.cancellation.sleep(0.05)
        self.assertGreaterEqual(time.monotonic() - began, 0.05)


class WatchTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.cancellation = Cancellation()
        self.error: exception.SnapshotError | None = None
        self.looks = 0
        self.cancellation.watch(self.look)

    def look(self) -> exception.SnapshotError | None:
        self.looks += 1
        return self.error

    def look_always(self) -> None:
        self.useFixture(fixtures.MockPatchObject(module, 'LOOK_INTERVAL', 0))

    def test_nothing_to_be_seen(self) -> None:
        self.cancellation.check()
        self.assertEqual(1, self.looks)

    def test_not_looked_at_all_the_time(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(module, 'LOOK_INTERVAL', 3600)
        )
        for _ in range(10):
            self.cancellation.check()
        self.assertEqual(1, self.looks)

    def test_stopped(self) -> None:
        self.look_always()
        self.cancellation.check()
        self.error = exception.DomainNotFound(domain='web-1')
        self.assertRaises(exception.DomainNotFound, self.cancellation.check)
        # An error that was seen is not looked up again.
        self.error, looks = None, self.looks
        self.assertRaises(
            exception.DomainNotFound, self.cancellation.sleep, 60
        )
        self.assertEqual(looks, self.looks)

    def test_request_goes_before_what_comes_after(self) -> None:
        self.look_always()
        self.cancellation.request('SIGINT')
        self.error = exception.DomainNotFound(domain='web-1')
        self.assertRaises(exception.Cancelled, self.cancellation.check)

    def test_sleeper_looks(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(module, 'LOOK_INTERVAL', 0.01)
        )

        def appear() -> None:
            self.error = exception.DomainNotFound(domain='web-1')

        timer = threading.Timer(0.05, appear)
        timer.start()
        self.addCleanup(timer.join)
        began = time.monotonic()
        self.assertRaises(
            exception.DomainNotFound, self.cancellation.sleep, 60
        )
        self.assertLess(time.monotonic() - began, 30)


class DeadlineTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(module, 'LOOK_INTERVAL', 0))
        self.cancellation = Cancellation()
        self.now = 1000.0
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.common.cancellation.time.monotonic',
                lambda: self.now,
            )
        )

    def test_in_time(self) -> None:
        self.cancellation.limit(60)
        self.now += 59
        self.cancellation.check()

    def test_exceeded(self) -> None:
        self.cancellation.limit(60)
        self.now += 60
        error = self.assertRaises(
            exception.DeadlineExceeded, self.cancellation.check
        )
        self.assertEqual({'seconds': 60}, error.fields)
