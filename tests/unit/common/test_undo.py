# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import undo
from tests.unit.host import NoWaiting


class SurelyTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(NoWaiting())
        self.attempts = 0

    def refuse(self, times: int, error: Exception) -> None:
        self.attempts += 1
        if self.attempts <= times:
            raise error

    def retry_undo(self, times: int, error: Exception) -> None:
        undo.retry_undo(
            'web-1', 'define', lambda: self.refuse(times, error), 'Look.'
        )

    def test_at_once(self) -> None:
        self.retry_undo(0, KeyError())
        self.assertEqual(1, self.attempts)

    def test_last_attempt(self) -> None:
        refusal = exception.SnapshotError(reason='busy')
        self.retry_undo(undo.ATTEMPTS - 1, refusal)
        self.assertEqual(undo.ATTEMPTS, self.attempts)

    def test_given_up(self) -> None:
        refusal = exception.SnapshotError(reason='busy')
        error = self.assertRaises(
            exception.UndoFailed, self.retry_undo, undo.ATTEMPTS, refusal
        )
        self.assertEqual(undo.ATTEMPTS, self.attempts)
        self.assertEqual('define', error.fields['undo'])
        for words in ('web-1', 'busy', 'Look.'):
            self.assertIn(words, str(error))

    def test_bug_is_not_tried_again(self) -> None:
        self.assertRaises(KeyError, self.retry_undo, 1, KeyError())
        self.assertEqual(1, self.attempts)
