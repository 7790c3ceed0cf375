# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from typing import Any

import fixtures

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.common.cancellation import Cancellation
from tests.unit.common.test_wait import ClockCase


class RetryTest(ClockCase):
    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger(level=logging.INFO))
        self.attempts = 0

    def retry(
        self, refusals: int, on: Any = ConnectionError, **bounds: Any
    ) -> int:
        def attempt() -> int:
            self.attempts += 1
            if self.attempts <= refusals:
                raise ConnectionError('it is\nbusy')
            return self.attempts

        return retry.call(attempt, 'ask it', on, **bounds)

    def test_at_once(self) -> None:
        self.assertEqual(1, self.retry(0, attempts=3))
        self.assertEqual([], self.clock.slept)
        self.assertEqual('', self.log.output)

    def test_each_retry_is_logged(self) -> None:
        self.assertEqual(3, self.retry(2, attempts=3))
        self.assertEqual(
            [
                f'ask it: attempt {number} failed, trying again: it is busy'
                for number in (1, 2)
            ],
            self.log.output.splitlines(),
        )

    def test_last_attempt_fails(self) -> None:
        self.assertRaises(ConnectionError, self.retry, 9, attempts=3)
        self.assertEqual(3, self.attempts)

    def test_time_is_over(self) -> None:
        self.assertRaises(ConnectionError, self.retry, 99, timeout=5, pause=2)
        self.assertEqual([2, 2, 2], self.clock.slept)

    def test_pauses_grow(self) -> None:
        self.retry(5, attempts=6, longest_pause=5)
        self.assertEqual([1, 2, 4, 5, 5], self.clock.slept)

    def test_error_of_another_kind(self) -> None:
        self.assertRaises(ConnectionError, self.retry, 1, KeyError, attempts=3)
        self.assertEqual(1, self.attempts)

    def test_errors_that_a_function_knows(self) -> None:
        self.retry(1, lambda error: 'busy' in str(error), attempts=3)
        self.assertEqual(2, self.attempts)

    def test_cancelled(self) -> None:
        cancellation = Cancellation()
        cancellation.request('SIGTERM')
        self.assertRaises(
            exception.Cancelled,
            self.retry,
            1,
            attempts=3,
            cancellation=cancellation,
        )
        self.assertEqual(1, self.attempts)
