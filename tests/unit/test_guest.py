# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from unittest import mock

import ddt
import fixtures
import libvirt
import testtools

from nova_snapshot_driver import block_copy
from nova_snapshot_driver import exception
from nova_snapshot_driver import host as host_module
from nova_snapshot_driver.block_copy import BlockCopy
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.domain import Disk
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.host import Host
from tests.faults import libvirt_error
from tests.unit import documents
from tests.unit import tables
from tests.unit.fake_libvirt import FakeConnection
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.host import DEVICES
from tests.unit.host import FakeHost

#: What would be a failure of the test, and not of what it tests, in seconds.
PATIENCE = 30


class GuestCase(testtools.TestCase):
    DEVICES = DEVICES

    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost(self.DEVICES))
        self.machine = self.host.machine
        self.guest = self.host.guest()

    def root(self) -> Disk:
        disk = self.guest.describe().root_disk
        assert disk is not None
        return disk


class HostTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.connection = FakeConnection()
        self.connection.add(documents.inactive(''))
        self.host = Host(self.connection)

    def test_by_name_and_by_uuid(self) -> None:
        for name in (documents.NAME, documents.UUID):
            guest = self.host.guest(name)
            self.assertEqual(documents.NAME, guest.name)
            self.assertEqual(documents.UUID, guest.uuid)

    def test_name_that_looks_like_a_uuid(self) -> None:
        name = '11111111-1111-4111-8111-111111111111'
        other = '22222222-2222-4222-8222-222222222222'
        self.connection.add(documents.inactive('', name=name, uuid=other))
        self.assertEqual(other, self.host.guest(name).uuid)

    def test_unknown(self) -> None:
        for name in ('web-9', '11111111-1111-4111-8111-111111111111'):
            error = self.assertRaises(
                exception.DomainNotFound, self.host.guest, name
            )
            self.assertIn(name, str(error))

    def test_libvirtd_is_restarted(self) -> None:
        """What was on its way fails; what comes next reaches the next one."""
        guest = self.guest_after(self.connection.restart)
        self.assertFalse(guest.is_active())

    def test_libvirtd_takes_its_time_to_be_restarted(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(host_module, 'RESTART_INTERVAL', 0)
        )
        absent = [exception.ConnectionFailed(uri='qemu:///system', reason='-')]

        def reconnect() -> FakeConnection:
            if absent:
                raise absent.pop()
            return self.connection.restart()

        self.assertFalse(self.guest_after(reconnect).is_active())

    def test_libvirtd_is_gone(self) -> None:
        """The error is that of the call, not that of the search."""
        self.useFixture(
            fixtures.MockPatchObject(host_module, 'RESTART_TIMEOUT', 0)
        )

        def reconnect() -> FakeConnection:
            raise exception.ConnectionFailed(uri='qemu:///system', reason='-')

        guest = self.guest_after(reconnect)
        self.assertRaises(exception.HypervisorError, guest.is_active)

    def test_domain_has_not_outlived_libvirtd(self) -> None:
        def reconnect() -> FakeConnection:
            self.connection.machines.clear()
            return self.connection.restart()

        guest = Host(self.connection, reconnect).guest(documents.NAME)
        self.connection.alive = False
        self.assertRaises(exception.DomainNotFound, guest.is_active)

    def guest_after(self, reconnect: Callable[[], FakeConnection]) -> Guest:
        """One of whom the first question has met a libvirtd that has died."""
        guest = Host(self.connection, reconnect).guest(documents.NAME)
        self.connection.alive = False
        error = self.assertRaises(exception.HypervisorError, guest.is_active)
        self.assertIn('client socket is closed', str(error))
        return guest

    def test_lookup_that_fails_is_no_missing_domain(self) -> None:
        def broken(_name: str) -> FakeDomain:
            raise libvirt_error(libvirt.VIR_ERR_RPC, 'end of file')

        self.useFixture(
            fixtures.MockPatchObject(self.connection, 'lookupByName', broken)
        )
        error = self.assertRaises(
            exception.HypervisorError, self.host.guest, documents.NAME
        )
        self.assertIn('end of file', str(error))

    def test_versions(self) -> None:
        self.assertEqual(9_000_000, self.host.libvirt_version())
        self.assertEqual(7_002_022, self.host.qemu_version())

    def test_open(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(host_module, '_run_event_loop')
        )
        opened = self.useFixture(
            fixtures.MockPatch('libvirt.open', return_value=self.connection)
        ).mock
        with Host.open('') as host:
            self.assertEqual(documents.NAME, host.guest(documents.NAME).name)
            self.assertFalse(self.connection.closed)
        self.assertTrue(self.connection.closed)
        self.assertEqual(mock.call('qemu:///system'), opened.call_args)

    def test_open_fails(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(host_module, '_run_event_loop')
        )
        refused = libvirt_error(
            libvirt.VIR_ERR_SYSTEM_ERROR,
            "Failed to connect socket to '/run/libvirt/libvirt-sock'",
        )
        self.useFixture(
            fixtures.MockPatch('libvirt.open', side_effect=refused)
        )
        with (
            testtools.ExpectedException(
                exception.ConnectionFailed, '.*qemu:///x.*libvirt-sock.*'
            ),
            Host.open('qemu:///x'),
        ):
            pass


@ddt.ddt
class PowerStateTest(GuestCase):
    @tables.rows(
        {
            'running': (libvirt.VIR_DOMAIN_RUNNING, PowerState.RUNNING),
            'blocked': (libvirt.VIR_DOMAIN_BLOCKED, PowerState.RUNNING),
            'paused': (libvirt.VIR_DOMAIN_PAUSED, PowerState.PAUSED),
            'shut_off': (libvirt.VIR_DOMAIN_SHUTOFF, PowerState.SHUT_OFF),
            'crashed': (libvirt.VIR_DOMAIN_CRASHED, PowerState.SHUT_OFF),
        }
    )
    def test_state(self, state: int, expected: PowerState) -> None:
        self.machine.state = state
        self.assertIs(expected, self.guest.power_state())

    @tables.rows(
        {
            'shutdown': (libvirt.VIR_DOMAIN_SHUTDOWN,),
            'pmsuspended': (libvirt.VIR_DOMAIN_PMSUSPENDED,),
        }
    )
    def test_on_its_way(self, state: int) -> None:
        self.machine.state = state
        self.assertRaises(exception.NotSupported, self.guest.power_state)

    def test_managed_save(self) -> None:
        FakeDomain(self.machine).managedSave(0)
        self.assertIs(PowerState.SUSPENDED, self.guest.power_state())


class DefinitionTest(GuestCase):
    def test_has_the_secrets(self) -> None:
        definition = self.guest.definition()
        self.assertEqual(documents.NAME, definition.name)
        self.assertEqual(documents.UUID, definition.uuid)
        self.assertIn('s3cret', definition.xml)
        self.assertNotIn('<alias', definition.xml)
        self.assertTrue(definition.autostart)

    def test_undefine_and_define(self) -> None:
        before = self.host.before()
        definition = self.guest.definition()
        self.guest.undefine()
        self.assertFalse(self.guest.persistent())
        self.assertTrue(self.machine.nvram and self.machine.tpm)
        self.guest.define(definition)
        self.assertEqual([], self.host.differences(before))

    def test_no_autostart_where_there_was_none(self) -> None:
        self.machine.autostart = False
        definition = self.guest.definition()
        self.guest.undefine()
        self.guest.define(definition)
        self.assertFalse(self.machine.autostart)

    def test_old_libvirt_knows_no_flag_for_the_tpm(self) -> None:
        self.host.connection.version = 8_008_000
        self.guest.undefine()
        self.assertFalse(self.guest.persistent())

    def test_define_after_the_guest_has_stopped(self) -> None:
        definition = self.guest.definition()
        self.guest.undefine()
        self.machine.stop()
        self.assertRaises(exception.DomainNotFound, self.guest.persistent)
        self.guest.define(definition)
        self.assertTrue(self.guest.persistent())


class BlockJobTest(GuestCase):
    def test_none(self) -> None:
        self.assertIsNone(self.guest.block_job(self.root()))

    def test_kinds(self) -> None:
        job = FakeDomain(self.machine).begin_copy('vda', '/delta')
        self.assertEqual('copy', self.guest.block_job(self.root()))
        job.kind = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT
        self.assertEqual('commit', self.guest.block_job(self.root()))
        job.kind = 99
        self.assertEqual('type 99', self.guest.block_job(self.root()))

    def test_abort(self) -> None:
        FakeDomain(self.machine).begin_copy('vda', '/delta')
        self.guest.abort_block_job(self.root(), 5)
        self.assertEqual({}, self.machine.jobs)

    def test_abort_that_does_not_end(self) -> None:
        FakeDomain(self.machine).begin_copy('vda', '/delta')
        self.useFixture(fixtures.MockPatchObject(FakeDomain, 'blockJobAbort'))
        error = self.assertRaises(
            exception.HypervisorTimeout,
            self.guest.abort_block_job,
            self.root(),
            0,
        )
        self.assertIn('guest_timeout', str(error))


@ddt.ddt
class BlockCopyTest(GuestCase):
    def setUp(self) -> None:
        super().setUp()
        self.target = self.host.root / 'delta'
        self.target.touch()
        self.guest.undefine()

    @contextlib.contextmanager
    def copying(self, timeout: int = 5):  # type: ignore[no-untyped-def]
        with self.guest.copying(
            self.root(), str(self.target), timeout, bandwidth=7
        ) as copy:
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
        """That the job is gone says nothing."""
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
        block_job = self.guest.block_job

        def look(disk: Disk) -> str | None:
            job = block_job(disk)
            if job is None:
                gone.set()
            return job

        def tell() -> None:
            if gone.wait(PATIENCE):
                self.host.connection.tell(self.machine, 'vda', status)

        self.useFixture(
            fixtures.MockPatchObject(self.guest, 'block_job', look)
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
                fixtures.MockPatchObject(self.guest, 'block_job')
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
        """What is not known to have ended well has not."""
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

    def test_given_up_after_the_guest_has_stopped(self) -> None:
        with testtools.ExpectedException(KeyError), self.copying():
            self.machine.stop()
            raise KeyError
        self.is_over()

    def test_given_up_without_a_job(self) -> None:
        disk = self.root()
        with BlockCopy.watched(
            self.guest, FakeDomain(self.machine), disk, 5
        ) as copy:
            copy.give_up()
        self.is_over()


class SizesTest(GuestCase):
    def test_sizes(self) -> None:
        self.assertEqual(2048 << 20, self.guest.capacity(self.root()))

    def test_unknown_disk(self) -> None:
        disk = Disk('vdz', 'file', 'raw', '/x')
        self.assertRaises(exception.HypervisorError, self.guest.capacity, disk)


class ManagedSaveTest(GuestCase):
    def hold(self) -> threading.Event:
        held = self.machine.save_is_held = threading.Event()
        self.addCleanup(self.machine.save_is_aborted.set)
        return held

    def test_save_and_bring_back(self) -> None:
        before = self.host.before()
        self.guest.managed_save(PATIENCE, Cancellation())
        self.assertIs(PowerState.SUSPENDED, self.guest.power_state())
        self.guest.bring_back(PowerState.RUNNING)
        self.assertEqual([], self.host.differences(before))

    def test_paused_guest_comes_back_paused(self) -> None:
        self.machine.state = libvirt.VIR_DOMAIN_PAUSED
        self.guest.managed_save(PATIENCE, Cancellation())
        self.guest.bring_back(PowerState.PAUSED)
        self.assertIs(PowerState.PAUSED, self.guest.power_state())

    def test_guest_that_a_save_has_left_paused(self) -> None:
        self.machine.state = libvirt.VIR_DOMAIN_PAUSED
        self.guest.bring_back(PowerState.RUNNING)
        self.assertIs(PowerState.RUNNING, self.guest.power_state())

    def test_guest_that_is_back_already(self) -> None:
        for state in (PowerState.RUNNING, PowerState.PAUSED):
            self.guest.bring_back(state)
            self.assertIs(PowerState.RUNNING, self.guest.power_state())

    def test_refused(self) -> None:
        self.machine.refusals['managedSave'] = 1
        error = self.assertRaises(
            exception.HypervisorError,
            self.guest.managed_save,
            PATIENCE,
            Cancellation(),
        )
        self.assertIn('state change lock', str(error))

    def test_too_slow(self) -> None:
        self.hold()
        error = self.assertRaises(
            exception.HypervisorTimeout,
            self.guest.managed_save,
            0,
            Cancellation(),
        )
        self.assertIn('managed save', str(error))
        # The job was aborted, and not left to run.
        self.assertTrue(self.machine.save_is_aborted.is_set())
        self.assertIs(PowerState.RUNNING, self.guest.power_state())

    def test_cancelled(self) -> None:
        self.hold()
        cancellation = Cancellation()
        cancellation.request('SIGTERM')
        self.assertRaises(
            exception.Cancelled,
            self.guest.managed_save,
            PATIENCE,
            cancellation,
        )
        self.assertIs(PowerState.RUNNING, self.guest.power_state())

    def test_cancelled_too_late(self) -> None:
        """Whoever brings the guest back must find it saved, not saving."""
        self.hold().set()
        cancellation = Cancellation()
        cancellation.request('SIGTERM')
        self.assertRaises(
            exception.Cancelled,
            self.guest.managed_save,
            PATIENCE,
            cancellation,
        )
        self.assertIs(PowerState.SUSPENDED, self.guest.power_state())


class HostDeviceTest(GuestCase):
    DEVICES = DEVICES + documents.PCI_DEVICE

    def test_detach_waits_for_the_guest(self) -> None:
        (device,) = self.guest.describe().host_devices
        self.guest.detach(device, PATIENCE, Cancellation())
        self.assertEqual([], self.machine.host_devices())

    def test_guest_does_not_let_it_go(self) -> None:
        self.machine.releases = None
        (device,) = self.guest.describe().host_devices
        error = self.assertRaises(
            exception.DeviceNotReleased,
            self.guest.detach,
            device,
            0,
            Cancellation(),
        )
        self.assertIn('hostdev0', str(error))
        self.assertIn('guest_timeout', str(error))


class FakeDomainTest(GuestCase):
    """What the tests build on."""

    def test_handles_of_a_gone_domain(self) -> None:
        self.machine.config = None
        self.machine.stop()
        self.assertRaises(exception.DomainNotFound, self.guest.describe)
        self.assertRaises(exception.DomainNotFound, self.guest.power_state)
        self.assertRaises(
            exception.DomainNotFound,
            Host(self.host.connection).guest,
            documents.UUID,
        )

    def test_guest_without_secrets_is_not_the_same(self) -> None:
        before = self.host.before()
        domain = FakeDomain(self.machine)
        public = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        self.machine.config = public
        (difference,) = self.host.differences(before)
        self.assertIn('passwd', difference)
        self.assertIsInstance(self.guest, Guest)
