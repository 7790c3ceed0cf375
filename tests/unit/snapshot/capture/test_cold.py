# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.view import Layer
from tests.faults import Fault
from tests.faults import Interposer
from tests.faults import Kind
from tests.faults import Step
from tests.unit import documents
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.host import DEVICES
from tests.unit.host import FakeHost

SOURCE = Layer(
    '/var/lib/nova/instances/8a6f3f5e/disk',
    'qcow2',
    backing=Layer('/var/lib/nova/instances/_base/0a1b2c', 'raw', is_last=True),
)


class ColdCase(testtools.TestCase):
    DEVICES = DEVICES

    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost(self.DEVICES))
        self.machine = self.host.machine
        self.host.set('snapshot', 'method', 'cold')
        self.host.bound_guest_waits(1)
        self.before = self.host.before()

    def is_given_back(self) -> None:
        self.assertEqual([], self.host.differences(self.before))


class ViewTest(ColdCase):
    def test_view_is_the_disk_of_a_guest_that_does_not_run(self) -> None:
        seen = []
        self.host.data_plane.at_extract = lambda: seen.append(
            (self.host.data_plane.view, self.machine.active)
        )
        self.host.snapshot()
        self.assertEqual([(SOURCE, False)], seen)
        # The disk is the guest's, and stays so.
        self.assertEqual([], self.host.environment.claimed)
        self.is_given_back()

    def test_guest_that_libvirt_can_not_suspend(self) -> None:
        """The guest keeps its devices, and its file systems are not frozen."""
        self.machine.has_lost_job = True
        with Interposer(self.host.connection) as interposer:
            error = self.assertRaises(
                exception.JobLost, self.host.snapshot, interposer.connection
            )
        self.assertIn('reboot --hard', str(error))
        calls = {step.call for step in interposer.steps}
        self.assertTrue(
            calls.isdisjoint({'detachDeviceAlias', 'fsFreeze', 'managedSave'})
        )
        self.is_given_back()

    def test_memory_is_saved_with_the_file_systems_frozen(self) -> None:
        seen = []
        self.host.data_plane.at_extract = lambda: seen.append(
            self.machine.saved and self.machine.saved.frozen
        )
        snapshot = self.host.snapshot()
        self.assertEqual([True], seen)
        self.assertTrue(snapshot.quiesced)
        self.is_given_back()

    def test_paused_guest_comes_back_paused(self) -> None:
        self.machine.state = libvirt.VIR_DOMAIN_PAUSED
        before = self.host.before()
        self.host.snapshot()
        self.assertEqual([], self.host.differences(before))

    def test_shut_off_guest_is_left_alone(self) -> None:
        self.machine.stop()
        before = self.host.before()
        snapshot = self.host.snapshot()
        self.assertEqual('cold', snapshot.method)
        self.assertEqual([], self.host.differences(before))

    def test_suspended_guest_stays_suspended(self) -> None:
        FakeDomain(self.machine).managedSave(0)
        before = self.host.before()
        self.host.snapshot()
        self.assertEqual([], self.host.differences(before))

    def test_required_and_refused(self) -> None:
        self.host.set('snapshot', 'quiesce', 'require')
        self.machine.freeze_fails = True
        self.assertRaises(exception.QuiesceFailed, self.host.snapshot)
        self.is_given_back()

    def test_late_freeze_does_not_last_until_the_image_is_sent(self) -> None:
        self.machine.freeze_is_late = True
        self.machine.refusals['fsThaw'] = 2
        seen = []
        self.host.data_plane.at_upload = lambda: seen.append(
            self.machine.frozen
        )
        self.host.snapshot()
        self.assertEqual([False], seen)


class StartedTest(ColdCase):
    """Data that were read while the guest wrote are no single instant."""

    def start(self) -> None:
        FakeDomain(self.machine).createWithFlags(0)

    def test_shut_off(self) -> None:
        self.machine.stop()
        self.host.data_plane.at_extract = self.start
        self.assertRaises(exception.DomainStarted, self.host.snapshot)
        self.assertTrue(self.machine.active)
        self.assertNotIn(self.host.image, self.host.glance.images)

    def test_saved(self) -> None:
        self.host.data_plane.at_extract = self.start
        self.assertRaises(exception.DomainStarted, self.host.snapshot)
        self.is_given_back()


class ManagedSaveTest(ColdCase):
    def test_refused(self) -> None:
        self.machine.refusals['managedSave'] = 1
        self.assertRaises(exception.HypervisorError, self.host.snapshot)
        self.is_given_back()

    def test_too_slow(self) -> None:
        self.machine.save_is_held = threading.Event()
        error = self.assertRaises(
            exception.HypervisorTimeout, self.host.snapshot
        )
        self.assertIn('suspend_timeout', str(error))
        self.is_given_back()

    def test_cancelled(self) -> None:
        self.machine.save_is_held = threading.Event()
        cancellation = Cancellation()
        fault = Fault(Step(0, 'managedSave', 1), Kind.MEANWHILE)
        with Interposer(
            self.host.connection, fault, lambda: cancellation.request('SIGINT')
        ) as interposer:
            self.assertRaises(
                exception.Cancelled,
                self.host.snapshot,
                interposer.connection,
                cancellation,
            )
        self.is_given_back()

    def test_guest_can_not_be_started_again(self) -> None:
        self.machine.refusals['createWithFlags'] = 1 << 30
        error = self.assertRaises(exception.UndoFailed, self.host.snapshot)
        # The one thing that a person must know.
        self.assertIn(f'virsh start {documents.NAME}', str(error))
        self.assertIsNotNone(self.machine.saved)


class HostDeviceTest(ColdCase):
    DEVICES = DEVICES + documents.PCI_DEVICE

    def test_detached_inside(self) -> None:
        seen = []
        self.host.data_plane.at_extract = lambda: seen.append(
            'hostdev'
            in FakeDomain(self.machine).XMLDesc(
                libvirt.VIR_DOMAIN_XML_INACTIVE
            )
        )
        self.host.snapshot()
        # The definition keeps it all the time.
        self.assertEqual([True], seen)
        self.is_given_back()

    def test_guest_does_not_let_it_go(self) -> None:
        self.machine.releases = None
        self.assertRaises(exception.DeviceNotReleased, self.host.snapshot)
        self.is_given_back()

    def test_guest_lets_it_go_while_the_snapshot_is_cancelled(self) -> None:
        self.machine.releases = 5
        cancellation = Cancellation()
        fault = Fault(Step(0, 'detachDeviceAlias', 1), Kind.MEANWHILE)
        with Interposer(
            self.host.connection, fault, lambda: cancellation.request('SIGINT')
        ) as interposer:
            self.assertRaises(
                exception.Cancelled,
                self.host.snapshot,
                interposer.connection,
                cancellation,
            )
        for _look in range(5):
            FakeDomain(self.machine).XMLDesc()
        self.is_given_back()

    def test_attached_at_the_third_attempt(self) -> None:
        self.machine.refusals['attachDeviceFlags'] = 2
        self.host.snapshot()
        self.is_given_back()

    def test_can_not_be_attached(self) -> None:
        self.machine.refusals['attachDeviceFlags'] = 3
        error = self.assertRaises(exception.UndoFailed, self.host.snapshot)
        self.assertIn('virsh attach-device', str(error))


class HostDevicesTest(ColdCase):
    DEVICES = (
        DEVICES
        + documents.PCI_DEVICE
        + documents.SRIOV_INTERFACE
        + documents.MEDIATED_DEVICE
    )

    def test_all_come_back(self) -> None:
        self.host.snapshot()
        self.is_given_back()

    def test_all_come_back_after_an_error(self) -> None:
        self.machine.refusals['managedSave'] = 1
        self.assertRaises(exception.HypervisorError, self.host.snapshot)
        self.is_given_back()


class UsbDeviceTest(ColdCase):
    DEVICES = DEVICES + documents.USB_DEVICE

    def test_saved_with_the_guest(self) -> None:
        self.host.snapshot()
        self.is_given_back()
