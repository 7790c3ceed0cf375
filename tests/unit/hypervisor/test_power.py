# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import libvirt

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.hypervisor.domain import PowerState
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.hypervisor.guest_case import GuestCase

#: The seconds after which the test itself is at fault.
PATIENCE = 30


class PowerStateTest(GuestCase):
    """The states themselves are in test_states.py."""

    def settled(self) -> PowerState:
        return self.guest.power.settled_state(PATIENCE, Cancellation())

    def test_managed_save(self) -> None:
        FakeDomain(self.machine).managedSave(0)
        self.assertIs(PowerState.SUSPENDED, self.guest.power.state())

    def test_nothing_to_wait_for(self) -> None:
        self.machine.state = libvirt.VIR_DOMAIN_PMSUSPENDED
        self.assertIs(PowerState.ASLEEP, self.settled())

    def test_it_has_shut_down(self) -> None:
        self.machine.state = libvirt.VIR_DOMAIN_SHUTDOWN
        self.machine.shuts_down_after = 3
        self.assertIs(PowerState.SHUT_OFF, self.settled())

    def test_it_does_not_shut_down(self) -> None:
        self.machine.state = libvirt.VIR_DOMAIN_SHUTDOWN
        self.assertIs(PowerState.SHUTTING_DOWN, self.settled())

    def test_it_is_transient(self) -> None:
        self.machine.state = libvirt.VIR_DOMAIN_SHUTDOWN
        self.machine.config = None
        self.machine.shuts_down_after = 3
        self.assertRaises(exception.DomainNotFound, self.settled)

    def test_cancelled(self) -> None:
        self.machine.state = libvirt.VIR_DOMAIN_SHUTDOWN
        cancellation = Cancellation()
        cancellation.request('SIGTERM')
        self.assertRaises(
            exception.Cancelled,
            self.guest.power.settled_state,
            PATIENCE,
            cancellation,
        )


class ManagedSaveTest(GuestCase):
    def hold(self) -> threading.Event:
        held = self.machine.save_is_held = threading.Event()
        self.addCleanup(self.machine.save_is_aborted.set)
        return held

    def test_save_and_bring_back(self) -> None:
        before = self.host.before()
        self.guest.power.managed_save(PATIENCE, Cancellation())
        self.assertIs(PowerState.SUSPENDED, self.guest.power.state())
        self.guest.power.resume_from_save(PowerState.RUNNING)
        self.assertEqual([], self.host.differences(before))

    def test_paused_guest_comes_back_paused(self) -> None:
        self.machine.state = libvirt.VIR_DOMAIN_PAUSED
        self.guest.power.managed_save(PATIENCE, Cancellation())
        self.guest.power.resume_from_save(PowerState.PAUSED)
        self.assertIs(PowerState.PAUSED, self.guest.power.state())

    def test_guest_that_libvirt_has_resumed_before_the_save(self) -> None:
        """The guest was paused for a dump, which had to end first."""
        self.guest.power.managed_save(PATIENCE, Cancellation())
        self.guest.power.resume_from_save(PowerState.PAUSED)
        self.assertIs(PowerState.RUNNING, self.guest.power.state())

    def test_guest_that_has_woken_up(self) -> None:
        """Somebody may have paused the guest since."""
        for state in (PowerState.ASLEEP, PowerState.CRASHED):
            self.machine.state = libvirt.VIR_DOMAIN_PAUSED
            self.guest.power.resume_from_save(state)
            self.assertIs(PowerState.PAUSED, self.guest.power.state())

    def test_guest_that_a_save_has_left_paused(self) -> None:
        self.machine.state = libvirt.VIR_DOMAIN_PAUSED
        self.guest.power.resume_from_save(PowerState.RUNNING)
        self.assertIs(PowerState.RUNNING, self.guest.power.state())

    def test_guest_that_is_back_already(self) -> None:
        for state in (PowerState.RUNNING, PowerState.PAUSED):
            self.guest.power.resume_from_save(state)
            self.assertIs(PowerState.RUNNING, self.guest.power.state())

    def test_refused(self) -> None:
        self.machine.refusals['managedSave'] = 1
        error = self.assertRaises(
            exception.HypervisorError,
            self.guest.power.managed_save,
            PATIENCE,
            Cancellation(),
        )
        self.assertIn('state change lock', str(error))

    def test_too_slow(self) -> None:
        self.hold()
        error = self.assertRaises(
            exception.HypervisorTimeout,
            self.guest.power.managed_save,
            0,
            Cancellation(),
        )
        self.assertIn('managed save', str(error))
        # The job was aborted, and not left to run.
        self.assertTrue(self.machine.save_is_aborted.is_set())
        self.assertIs(PowerState.RUNNING, self.guest.power.state())

    def test_cancelled(self) -> None:
        self.hold()
        cancellation = Cancellation()
        cancellation.request('SIGTERM')
        self.assertRaises(
            exception.Cancelled,
            self.guest.power.managed_save,
            PATIENCE,
            cancellation,
        )
        self.assertIs(PowerState.RUNNING, self.guest.power.state())

    def test_cancelled_too_late(self) -> None:
        """The resume that follows must find the guest saved, not saving."""
        self.hold().set()
        cancellation = Cancellation()
        cancellation.request('SIGTERM')
        self.assertRaises(
            exception.Cancelled,
            self.guest.power.managed_save,
            PATIENCE,
            cancellation,
        )
        self.assertIs(PowerState.SUSPENDED, self.guest.power.state())
