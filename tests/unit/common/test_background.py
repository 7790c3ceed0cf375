# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import testtools

from nova_snapshot_driver.common import background


class CallTest(testtools.TestCase):
    def test_result(self) -> None:
        self.assertEqual(42, background.call(lambda: 42).result(5))

    def test_error(self) -> None:
        def fail() -> None:
            raise KeyError

        self.assertRaises(KeyError, background.call(fail).result, 5)

    def test_nobody_waits(self) -> None:
        goes_on = threading.Event()
        self.addCleanup(goes_on.set)
        self.assertFalse(background.call(goes_on.wait).done())
