# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import ddt
import fixtures
from nova import exception as nova_exception

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.ownership import Kind
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Server
from nova_snapshot_driver.nova.environment import ComputeEnvironment
from nova_snapshot_driver.nova.errors import SnapshotFailed
from tests.nova.host import PATIENCE
from tests.nova.host import ComputeCase
from tests.nova.host import instance
from tests.unit import documents
from tests.unit import tables
from tests.unit.host import DEVICES

OTHER = 'b1c1f0f4-7d0e-4d8c-9a39-93a1d3a6f0d2'


class Slots(threading.BoundedSemaphore):
    """``[compute] max_concurrent_disk_ops``, as nova-compute makes it.

    :ivar someone_waits: somebody has asked more than once in vain
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.someone_waits = threading.Event()
        self._refusals = 0

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        acquired = super().acquire(*args, **kwargs)
        if not acquired:
            self._refusals += 1
            if self._refusals > 2:
                self.someone_waits.set()
        return acquired

    def is_free(self) -> bool:
        """All of a single slot is free; it is a mistake to free it twice."""
        if not super().acquire(blocking=False):
            return False
        self.release()
        return True


class DiskOperationCase(ComputeCase):
    def have_slots(self, number: int) -> Slots:
        slots = Slots(number)
        self.useFixture(
            fixtures.MockPatch('nova.compute.utils.disk_ops_semaphore', slots)
        )
        return slots


class DiskOperationTest(DiskOperationCase):
    def setUp(self) -> None:
        super().setUp()
        self.environment = ComputeEnvironment()
        self.cancellation = Cancellation()

    def operate(self) -> None:
        with self.environment.disk_operation(self.cancellation):
            pass

    def test_unlimited(self) -> None:
        """Nova's semaphore without a limit has a context and nothing else."""
        with (
            self.environment.disk_operation(self.cancellation),
            self.environment.disk_operation(self.cancellation),
        ):
            pass

    def test_slot_is_taken_and_freed(self) -> None:
        slots = self.have_slots(1)
        with self.environment.disk_operation(self.cancellation):
            self.assertFalse(slots.is_free())
        self.assertTrue(slots.is_free())

    def test_slot_is_freed_after_a_failure(self) -> None:
        slots = self.have_slots(1)

        def fail() -> None:
            with self.environment.disk_operation(self.cancellation):
                raise ValueError

        self.assertRaises(ValueError, fail)
        self.assertTrue(slots.is_free())

    def test_as_many_at_a_time_as_there_are_slots(self) -> None:
        self.have_slots(2)
        self.host.set('snapshot', 'disk_slot_timeout', 1)
        with (
            self.environment.disk_operation(self.cancellation),
            self.environment.disk_operation(self.cancellation),
        ):
            self.assertRaises(exception.HostBusy, self.operate)

    def test_cancelled_while_it_waits(self) -> None:
        slots = self.have_slots(1)
        with self.environment.disk_operation(self.cancellation):
            self.cancellation.request('enough')
            self.assertRaises(exception.Cancelled, self.operate)
        self.assertTrue(slots.is_free())

    def test_host_is_busy_for_too_long(self) -> None:
        self.have_slots(1)
        self.host.set('snapshot', 'disk_slot_timeout', 1)
        with self.environment.disk_operation(self.cancellation):
            error = self.assertRaises(exception.HostBusy, self.operate)
        self.assertIn('for 1 s', str(error))
        self.assertIn('[snapshot] disk_slot_timeout', str(error))


class SnapshotTest(DiskOperationCase):
    """Several snapshots on one host."""

    def setUp(self) -> None:
        super().setUp()
        self.slots = self.have_slots(1)
        self.host.set('snapshot', 'method', 'cold')

    def test_guest_runs_on_while_others_are_served(self) -> None:
        self.slots.acquire()
        snapshot = self.host.begin()
        self.assertTrue(self.slots.someone_waits.wait(PATIENCE))
        self.assertTrue(self.host.machine.active)
        self.assertIsNone(self.host.machine.saved)
        self.slots.release()
        snapshot.result(PATIENCE)
        self.assert_given_back()
        self.assertTrue(self.slots.is_free())

    def test_instance_is_deleted_while_others_are_served(self) -> None:
        self.slots.acquire()
        snapshot = self.host.begin()
        self.assertTrue(self.slots.someone_waits.wait(PATIENCE))
        self.host.compute.destroy(
            self.host.request_context, self.host.instance, []
        )
        self.assertIsInstance(
            snapshot.exception(PATIENCE), nova_exception.InstanceNotFound
        )
        self.assert_given_back()
        self.slots.release()
        self.assertTrue(self.slots.is_free())

    def test_others_take_too_long(self) -> None:
        self.host.set('snapshot', 'disk_slot_timeout', 1)
        self.slots.acquire()
        error = self.assertRaises(SnapshotFailed, self.host.take)
        self.assertIn('host-busy', str(error))
        self.assert_given_back()
        self.assert_image_is_gone()

    def test_extraction_fails(self) -> None:
        def fail() -> None:
            raise exception.CommandFailed(
                command='qemu-img convert', status=1, reason='broken'
            )

        self.host.data_plane.at_extract = fail
        self.assertRaises(SnapshotFailed, self.host.take)
        self.assertTrue(self.slots.is_free())

    def test_disk_is_free_while_the_image_is_uploaded(self) -> None:
        """Upstream holds the slot for as long as the upload takes, and
        not while it converts: some slow uploads stop all work on disks.
        """
        self.host.connection.add(
            documents.inactive(DEVICES, name='instance-0000002b', uuid=OTHER)
        ).start()
        image = self.host.glance.add(name='another snapshot')
        hold = self.host.hold_upload()
        snapshot = self.host.begin()
        hold.wait_until_reached()
        self.assertTrue(self.slots.is_free())
        self.host.begin(instance(uuid=OTHER), image).result(PATIENCE)
        self.assertEqual('active', self.host.glance.images[image]['status'])
        self.assertFalse(snapshot.done())
        hold.release()
        snapshot.result(PATIENCE)


@ddt.ddt
class EntrustTest(ComputeCase):
    """QEMU runs as another user, and makes its socket where we say."""

    QEMU = 64055

    @tables.rows({'root': (0, 0o700), 'nova': (4242, 0o770)})
    def test_directory(self, uid: int, mode: int) -> None:
        owners: list[tuple[str, int, int, int]] = []
        self.useFixture(fixtures.MockPatch('os.geteuid', return_value=uid))
        self.useFixture(fixtures.MockPatch('os.getegid', return_value=uid))
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.nova.privsep.entrust',
                lambda *arguments: owners.append(arguments),
            )
        )
        path = self.useFixture(fixtures.TempDir()).path
        os.chmod(path, 0o700)
        ComputeEnvironment().entrust(path, self.QEMU)
        self.assertEqual([(path, uid, self.QEMU, uid)], owners)
        self.assertEqual(mode, stat.S_IMODE(os.stat(path).st_mode))

    def test_root_does_not_find_the_driver(self) -> None:
        """The daemon runs on a Python that lacks it."""
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.nova.privsep.entrust',
                side_effect=ModuleNotFoundError('No module named ...'),
            )
        )
        path = self.useFixture(fixtures.TempDir()).path
        error = self.assertRaises(
            PermissionError, ComputeEnvironment().entrust, path, self.QEMU
        )
        self.assertIn('install it there', error.strerror)


class ClaimTest(ComputeCase):
    """QEMU runs as another user, and owns what it has written."""

    def setUp(self) -> None:
        super().setUp()
        self.uid = os.geteuid()
        self.claims: list[tuple[str, int]] = []
        self.at_claim(lambda path, uid: self.claims.append((path, uid)))
        self.useFixture(
            fixtures.MockPatch('nova_snapshot_driver.nova.privsep.entrust')
        )
        path = self.useFixture(fixtures.TempDir()).path
        self.file = os.path.join(path, 'delta')
        with open(self.file, 'w', encoding='utf-8'):
            pass

    def at_claim(self, happens: Callable[[str, int], object]) -> None:
        """Have root do something else, of which nobody here is capable."""
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.nova.privsep.claim',
                lambda path, _kind, _owners, claimant, *_inode: happens(
                    path, claimant
                ),
            )
        )

    def be_somebody_else(self) -> None:
        """The user that this process is has QEMU."""
        assert self.host.machine.live is not None
        label = ElementTree.SubElement(
            self.host.machine.live, 'seclabel', type='dynamic', model='dac'
        )
        ElementTree.SubElement(label, 'label').text = f'+{self.uid}:+108'
        self.useFixture(fixtures.MockPatch('os.geteuid', return_value=4242))

    def claim(self) -> Inode:
        return ComputeEnvironment().claim(
            self.file, Kind.FILE, (self.uid, 4242)
        )

    def test_file_of_somebody_else(self) -> None:
        self.be_somebody_else()
        self.assertEqual(Inode.of(os.stat(self.file)), self.claim())
        self.assertEqual([(self.file, 4242)], self.claims)

    def test_file_of_our_own(self) -> None:
        """libvirt may have given it back, and privsep need not be woken."""
        self.assertEqual(Inode.of(os.stat(self.file)), self.claim())
        self.assertEqual([], self.claims)

    def test_link(self) -> None:
        """Root is not asked for what is refused at sight."""
        self.be_somebody_else()
        os.rename(self.file, f'{self.file} elsewhere')
        os.symlink(f'{self.file} elsewhere', self.file)
        error = self.assertRaises(exception.ClaimRefused, self.claim)
        self.assertIn('symbolic link', str(error))
        self.assertEqual([], self.claims)

    def test_root_does_not_find_the_driver(self) -> None:
        def fail(*_arguments: object) -> None:
            raise ModuleNotFoundError('No module named ...')

        self.be_somebody_else()
        self.at_claim(fail)
        error = self.assertRaises(exception.ClaimRefused, self.claim)
        self.assertIn('install it there', str(error))

    def test_delta_is_claimed_before_it_is_read(self) -> None:
        self.host.set('snapshot', 'method', 'mirror')
        self.assertEqual(
            ['delta'], [os.path.basename(path) for path in self.claimed()]
        )

    def test_socket_is_claimed_before_it_is_read(self) -> None:
        """QEMU makes the socket, and nobody else may connect to it."""
        claimed = self.claimed()
        view = self.host.data_plane.view
        assert isinstance(view, Export)
        self.assertEqual([view.socket], claimed)
        self.assertEqual(
            Server(self.uid, ('-uuid', documents.UUID)), view.server
        )

    def claimed(self) -> list[str]:
        """The files that nova-compute has claimed when it reads the disk."""
        self.be_somebody_else()
        seen: list[str] = []
        self.host.data_plane.at_extract = lambda: seen.extend(
            path for path, _uid in self.claims
        )
        self.host.take()
        return seen

    def test_privsep_is_not_woken_while_the_guest_stands_still(self) -> None:
        """Upstream changes the owner in the freeze, and starts the
        daemon for that, once: the guest stands still for a second.
        """
        self.be_somebody_else()
        frozen: list[bool] = []
        self.at_claim(
            lambda _path, _uid: frozen.append(self.host.machine.frozen)
        )
        self.host.take()
        self.assertEqual([False], frozen)
