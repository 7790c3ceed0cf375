# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fixtures
import libvirt

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor.jobs import abort_limit
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.hypervisor.guest_case import GuestCase


class BlockJobTest(GuestCase):
    def test_none(self) -> None:
        self.assertIsNone(self.guest.jobs.block_job(self.root()))

    def test_kinds(self) -> None:
        job = FakeDomain(self.machine).begin_copy('vda', '/delta')
        self.assertEqual('copy', self.guest.jobs.block_job(self.root()))
        job.kind = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT
        self.assertEqual('commit', self.guest.jobs.block_job(self.root()))
        job.kind = 99
        self.assertEqual('type 99', self.guest.jobs.block_job(self.root()))

    def test_abort(self) -> None:
        FakeDomain(self.machine).begin_copy('vda', '/delta')
        self.guest.jobs.abort_block_job(self.root(), abort_limit(5))
        self.assertEqual({}, self.machine.jobs)

    def test_abort_in_a_guest_that_stops(self) -> None:
        """A job is gone with its guest."""
        FakeDomain(self.machine).begin_copy('vda', '/delta')

        def stop(_domain: FakeDomain, _target: str, _flags: int) -> None:
            self.machine.stop()

        self.useFixture(
            fixtures.MockPatchObject(FakeDomain, 'blockJobAbort', stop)
        )
        self.guest.jobs.abort_block_job(self.root(), abort_limit(5))
        self.assertFalse(self.guest.jobs.has_block_job(self.root()))

    def test_abort_that_does_not_end(self) -> None:
        FakeDomain(self.machine).begin_copy('vda', '/delta')
        self.useFixture(fixtures.MockPatchObject(FakeDomain, 'blockJobAbort'))
        error = self.assertRaises(
            exception.HypervisorTimeout,
            self.guest.jobs.abort_block_job,
            self.root(),
            abort_limit(0),
        )
        self.assertIn('job_abort_timeout', str(error))
