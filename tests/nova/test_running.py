# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.nova.running import RunningSnapshots

ONE, OTHER = 'an-instance', 'another-instance'

#: In seconds; nothing here takes as long.
TIMEOUT = 20


class RunningSnapshotsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.FakeLogger())
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.nova.running.POLL_INTERVAL', 0.001
            )
        )
        self.snapshots = RunningSnapshots()

    def end(self, instance: str = ONE, timeout: float = TIMEOUT) -> float:
        begin = time.monotonic()
        self.snapshots.end(instance, 'the instance is destroyed', timeout)
        return time.monotonic() - begin

    def is_cancelled(self, cancellation: Cancellation) -> bool:
        try:
            cancellation.check()
        except exception.Cancelled as error:
            self.assertEqual(
                'the instance is destroyed', error.fields['reason']
            )
            return True
        return False

    def test_no_snapshot(self) -> None:
        self.assertLess(self.end(), TIMEOUT)

    def test_snapshot_that_has_ended(self) -> None:
        with self.snapshots.of(ONE) as cancellation:
            pass
        self.assertLess(self.end(), TIMEOUT)
        self.assertFalse(self.is_cancelled(cancellation))

    def test_snapshot_that_has_failed(self) -> None:
        def fail() -> None:
            with self.snapshots.of(ONE):
                raise ValueError

        self.assertRaises(ValueError, fail)
        self.assertLess(self.end(), TIMEOUT)

    def test_waits_until_it_has_ended(self) -> None:
        began, ended = threading.Event(), threading.Event()

        def snapshot() -> None:
            with self.snapshots.of(ONE) as cancellation:
                began.set()
                while not self.is_cancelled(cancellation):
                    time.sleep(0.001)
                ended.set()

        thread = threading.Thread(target=snapshot)
        thread.start()
        self.addCleanup(thread.join)
        self.assertTrue(began.wait(TIMEOUT))
        self.assertLess(self.end(), TIMEOUT)
        self.assertTrue(ended.is_set())

    def test_waits_no_longer_than_it_may(self) -> None:
        with self.snapshots.of(ONE) as cancellation:
            self.assertGreaterEqual(self.end(timeout=0.05), 0.05)
            self.assertTrue(self.is_cancelled(cancellation))

    def test_other_instances(self) -> None:
        with self.snapshots.of(OTHER) as cancellation:
            self.assertLess(self.end(), TIMEOUT)
            self.assertFalse(self.is_cancelled(cancellation))

    def test_second_one_that_is_refused(self) -> None:
        with self.snapshots.of(ONE) as first:
            with self.snapshots.of(ONE):
                pass
            self.end(timeout=0.01)
            self.assertTrue(self.is_cancelled(first))

    def test_second_one_that_outlives_the_first(self) -> None:
        """The first has given the guest back, and is about to delete its
        image, which may take a while: the lock of the domain is free.
        """
        first = self.snapshots.of(ONE)
        with first:
            second = self.snapshots.of(ONE)
            cancellation = second.__enter__()
        self.end(timeout=0.01)
        self.assertTrue(self.is_cancelled(cancellation))
        second.__exit__(None, None, None)
        self.assertLess(self.end(), TIMEOUT)

    def test_all(self) -> None:
        with self.snapshots.of(ONE) as one, self.snapshots.of(OTHER) as other:
            self.snapshots.end_all('the instance is destroyed', 0.01)
        for cancellation in (one, other):
            self.assertTrue(self.is_cancelled(cancellation))

    def test_all_are_waited_for(self) -> None:
        ended: list[str] = []

        def snapshot(instance: str) -> None:
            with self.snapshots.of(instance) as cancellation:
                began.wait(TIMEOUT)
                while not self.is_cancelled(cancellation):
                    time.sleep(0.001)
                ended.append(instance)

        began = threading.Barrier(3)
        for instance in (ONE, OTHER):
            thread = threading.Thread(target=snapshot, args=(instance,))
            thread.start()
            self.addCleanup(thread.join)
        began.wait(TIMEOUT)
        self.snapshots.end_all('the instance is destroyed', TIMEOUT)
        self.assertCountEqual([ONE, OTHER], ended)

    def test_none_begins_afterwards(self) -> None:
        self.snapshots.end_all('the instance is destroyed', TIMEOUT)
        with self.snapshots.of(ONE) as cancellation:
            self.assertTrue(self.is_cancelled(cancellation))
