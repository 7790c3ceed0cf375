# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time

import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation


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
