# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import io
import json
import signal
from collections.abc import Iterator

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.rbd import Clone
from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.recovery import __main__ as command
from nova_snapshot_driver.recovery import rescue
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings.ceph_clone import CephClone
from tests.unit import documents
from tests.unit.entries import image_of
from tests.unit.entries import taken
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.host import TIMEOUT
from tests.unit.host import FakeHost

CLONE = Clone(RbdImage('vms', 'disk'), 's', RbdImage('images', 'i'), 'fsid')


class RescueTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.before = self.host.before()
        self.guest = self.host.guest()
        self.journal = Journal(self.host.directories.state)
        self.troubles = 0
        self.fault: Exception | None = None
        self.at_connect: list[str] = []
        self.useFixture(fixtures.MockPatchObject(Host, 'open', self._open))
        self.useFixture(fixtures.MockPatchObject(rescue, 'INTERVAL', 0.01))
        self.useFixture(fixtures.MockPatchObject(rescue, 'PATIENCE', TIMEOUT))
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    @contextlib.contextmanager
    def _open(self, uri: str) -> Iterator[Host]:
        self.at_connect.append(uri)
        if self.fault is not None:
            raise self.fault
        if self.troubles:
            self.troubles -= 1
            raise exception.ConnectionFailed(uri=uri, reason='no socket')
        yield Host(self.host.connection)

    def watch(self, end: str = '\n') -> None:
        job = {
            'uri': 'qemu:///system',
            'domain': documents.NAME,
            'uuid': documents.UUID,
            'settings': self.host.settings.undo.to_dict(),
            'reason': 'a reason of its own',
        }
        command.main(io.StringIO(json.dumps(job) + end))

    def is_given_back(self) -> None:
        """The image is left for somebody who can ask Glance."""
        self.assertEqual(
            [f'in the state directory: {documents.UUID}.json'],
            self.host.differences(self.before),
        )
        self.assertEqual([], self.host.glance.requests)
        entry = self.journal.recall(documents.UUID)
        self.assertEqual(self.host.image, image_of(entry))
        self.host.healer().heal(self.host.context)
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual({}, self.host.glance.images)

    def test_frozen(self) -> None:
        self.journal.remember(
            taken(self.guest.definition(), frozen=True, image=self.host.image)
        )
        self.guest.agent.freeze()
        self.watch()
        self.is_given_back()

    def test_paused(self) -> None:
        self.journal.remember(
            taken(
                self.guest.definition(),
                persistent=False,
                paused=True,
                image=self.host.image,
            )
        )
        FakeDomain(self.host.machine).suspend()
        self.watch()
        self.is_given_back()

    def test_silent(self) -> None:
        """The watchdog waits on for a QEMU that answers nothing."""
        self.useFixture(fixtures.MockPatchObject(rescue, 'PATIENCE', 0))
        self.journal.remember(
            taken(self.guest.definition(), frozen=True, image=self.host.image)
        )
        self.guest.agent.freeze()
        self.host.machine.refusals['jobInfo'] = 5
        self.useFixture(fixtures.MockPatchObject(rescue, 'INTERVAL', 0))
        self.watch()
        self.is_given_back()

    def test_suspended(self) -> None:
        self.journal.remember(
            taken(
                self.guest.definition(),
                power_state=PowerState.RUNNING,
                frozen=True,
                image=self.host.image,
            )
        )
        domain = FakeDomain(self.host.machine)
        domain.fsFreeze()
        domain.managedSave(0)
        self.watch()
        self.is_given_back()

    def test_copied(self) -> None:
        self.journal.remember(
            taken(self.guest.definition(), image=self.host.image)
        )
        self.guest.undefine()
        FakeDomain(self.host.machine).begin_copy(
            'vda', f'{self.host.directories.snapshots}/{documents.UUID}-x/d'
        )
        self.watch()
        self.is_given_back()

    def test_nothing_was_taken(self) -> None:
        self.watch()
        self.assertEqual([], self.host.differences(self.before))

    def test_died_before_it_had_said_which(self) -> None:
        self.watch(end='')
        self.assertEqual([], self.at_connect)

    def test_libvirt_is_started_anew(self) -> None:
        self.journal.remember(
            taken(self.guest.definition(), frozen=True, image=self.host.image)
        )
        self.guest.agent.freeze()
        self.troubles = 3
        self.watch()
        self.assertEqual(['qemu:///system'] * 4, self.at_connect)
        self.is_given_back()

    def test_clone_that_may_be_an_image(self) -> None:
        """Only Glance could tell, and there is no point in asking again."""
        self.journal.remember(
            taken(
                self.guest.definition(),
                image=self.host.image,
                clone=CLONE,
            )
        )
        self.watch()
        self.assertEqual(['qemu:///system'], self.at_connect)
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        self.assertEqual([CephClone(CLONE)], entry.of_kind(CephClone))

    def test_libvirt_stays_away(self) -> None:
        self.troubles = 1_000_000
        with fixtures.MockPatchObject(rescue, 'PATIENCE', 0.05):
            self.watch()
        self.assertIn('no socket', self.host.log.output)

    def test_fault_of_the_program(self) -> None:
        """An unexpected error is retried, and becomes one line."""
        self.fault = KeyError('what is\nthat')
        with fixtures.MockPatchObject(rescue, 'PATIENCE', 0.05):
            self.watch()
        self.assertLess(1, len(self.at_connect))
        self.assertIn("KeyError: 'what is\\nthat'", self.host.log.output)
        self.assertNotIn('Traceback', self.host.log.output)

    def test_somebody_else_is_at_it(self) -> None:
        """Or the kernel has not let go of the lock of the dead."""
        self.journal.remember(
            taken(self.guest.definition(), frozen=True, image=self.host.image)
        )
        self.guest.agent.freeze()
        with (
            fixtures.MockPatchObject(rescue, 'PATIENCE', 0.05),
            self.journal.exclusive(documents.UUID, documents.NAME),
        ):
            self.watch()
        self.assertTrue(self.host.machine.frozen)
        self.watch()
        self.is_given_back()

    def test_whoever_ends_the_service_does_not_end_it(self) -> None:
        self.watch()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            self.assertEqual(signal.SIG_IGN, signal.getsignal(number))
