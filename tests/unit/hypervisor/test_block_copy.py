# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import threading

import ddt
import fixtures
import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor import block_copy
from nova_snapshot_driver.hypervisor.block_copy import BlockCopy
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.jobs import Jobs
from nova_snapshot_driver.hypervisor.jobs import abort_limit
from tests.unit import documents
from tests.unit import tables
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.host import DEVICES
from tests.unit.hypervisor.guest_case import GuestCase

#: The seconds after which the test itself is at fault.
PATIENCE = 30


@ddt.ddt
class BlockCopyTest(GuestCase):
    def setUp(self) -> None:
        super().setUp()
        self.target = self.host.root / 'delta'
        self.target.touch()
        self.guest.undefine()

    @contextlib.contextmanager
    def copying(self, timeout: int = 5):  # type: ignore[no-untyped-def]
        copy = BlockCopy(self.guest, self.root(), abort_limit(timeout))
        with copy.running(str(self.target), bandwidth=7):
            yield copy

    def is_over(self) -> None:
        self.assertEqual({}, self.machine.jobs)
        self.assertEqual({}, self.host.connection.listeners)

    def test_persistent_domain_is_refused(self) -> None:
        self.machine.config = documents.inactive(DEVICES)
        with (
            testtools.ExpectedException(
                exception.HypervisorError, '.*domain is not transient.*'
            ),
            self.copying(),
        ):
            pass
        self.is_over()

    def test_bandwidth(self) -> None:
        with self.copying():
            self.assertEqual(7, self.machine.jobs['vda'].bandwidth)

    def test_progress(self) -> None:
        with self.copying() as copy:
            first = copy.progress()
            self.assertEqual(
                (0, 1, False), (first.done, first.total, first.ready)
            )
            self.assertTrue(copy.progress().ready)
            copy.finish()
        self.is_over()

    @tables.rows(
        {
            'canceled': (libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED,),
            'completed': (libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED,),
        }
    )
    def test_good_end(self, status: int) -> None:
        self.machine.job_end = status
        with self.copying() as copy:
            copy.finish()
        self.is_over()

    def test_bad_end(self) -> None:
        """A job that is gone may have failed."""
        self.machine.job_end = libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED
        with (
            testtools.ExpectedException(
                exception.MirrorFailed, '.*the block job failed.*'
            ),
            self.copying() as copy,
        ):
            copy.finish()
        self.is_over()

    def test_failed_in_the_middle(self) -> None:
        self.machine.polls_until_ready = 99
        self.machine.job_dies_at = 2
        with (
            testtools.ExpectedException(
                exception.MirrorFailed, '.*the block job failed.*'
            ),
            self.copying() as copy,
        ):
            while True:
                copy.progress()
        self.is_over()

    def test_guest_stops_in_the_middle(self) -> None:
        with (
            testtools.ExpectedException(
                exception.MirrorFailed, '.*the guest has stopped.*'
            ),
            self.copying() as copy,
        ):
            self.machine.stop()
            copy.progress()
        self.is_over()

    def test_job_is_aborted_by_somebody_else(self) -> None:
        with (
            testtools.ExpectedException(exception.MirrorFailed),
            self.copying() as copy,
        ):
            FakeDomain(self.machine).blockJobAbort('vda', 0)
            copy.progress()
        self.is_over()

    def end_late(self, status: int) -> None:
        """Have the event of the copy come when its job is known to be gone.

        As from libvirt's own thread, which knows nothing of ours.
        """
        self.machine.job_end = None
        # However long that thread is kept waiting.
        self.useFixture(
            fixtures.MockPatchObject(block_copy, 'LATE_EVENT', 1000)
        )
        gone = threading.Event()
        block_job = self.guest.jobs.block_job

        def look(disk: Disk) -> str | None:
            job = block_job(disk)
            if job is None:
                gone.set()
            return job

        def tell() -> None:
            if gone.wait(PATIENCE):
                self.host.connection.tell(self.machine, 'vda', status)

        self.useFixture(
            fixtures.MockPatchObject(
                Jobs, 'block_job', lambda _jobs, disk: look(disk)
            )
        )
        thread = threading.Thread(target=tell)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(gone.set)

    @tables.rows(
        {
            'canceled': (libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED,),
            'completed': (libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED,),
        }
    )
    def test_good_end_is_heard_late_from_another_thread(
        self, status: int
    ) -> None:
        self.end_late(status)
        with self.copying() as copy:
            copy.finish()
        self.is_over()

    def test_bad_end_is_heard_late_from_another_thread(self) -> None:
        self.end_late(libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED)
        with self.copying() as copy:
            self.assertRaises(exception.MirrorFailed, copy.finish)
        self.is_over()

    def test_event_is_enough(self) -> None:
        """libvirt need not be asked what became of the job."""
        with self.copying() as copy:
            asked = self.useFixture(
                fixtures.MockPatchObject(Jobs, 'block_job')
            ).mock
            copy.finish()
        self.assertFalse(asked.called)
        self.is_over()

    def test_readiness_is_not_the_end(self) -> None:
        self.end_late(libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED)
        with self.copying() as copy:
            self.host.connection.tell(
                self.machine, 'vda', libvirt.VIR_DOMAIN_BLOCK_JOB_READY
            )
            copy.finish()
        self.is_over()

    def test_event_never_comes(self) -> None:
        """A job that is not known to have ended well has failed."""
        self.machine.job_end = None
        self.useFixture(fixtures.MockPatchObject(block_copy, 'LATE_EVENT', 0))
        with (
            testtools.ExpectedException(exception.MirrorFailed),
            self.copying() as copy,
        ):
            copy.finish()
        self.is_over()

    def test_event_of_another_disk_is_not_the_end(self) -> None:
        self.machine.job_end = None
        self.useFixture(fixtures.MockPatchObject(block_copy, 'LATE_EVENT', 0))
        with (
            testtools.ExpectedException(exception.MirrorFailed),
            self.copying() as copy,
        ):
            self.host.connection.tell(
                self.machine, 'vdb', libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED
            )
            copy.finish()

    def test_given_up(self) -> None:
        with testtools.ExpectedException(KeyError), self.copying():
            raise KeyError
        self.is_over()

    def test_given_up_without_an_event(self) -> None:
        """How a job has ended is of no interest then."""
        self.machine.job_end = None
        self.useFixture(
            fixtures.MockPatchObject(block_copy, 'LATE_EVENT', 1000)
        )
        with testtools.ExpectedException(KeyError), self.copying():
            raise KeyError
        self.is_over()

    def test_given_up_after_the_guest_has_stopped(self) -> None:
        with testtools.ExpectedException(KeyError), self.copying():
            self.machine.stop()
            raise KeyError
        self.is_over()

    def test_given_up_without_a_job(self) -> None:
        copy = BlockCopy(self.guest, self.root(), abort_limit(5))
        with copy.listening():
            copy.give_up()
        self.is_over()
