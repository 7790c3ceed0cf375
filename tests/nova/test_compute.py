# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import inspect
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import ddt
import fixtures
import libvirt
import nova.conf
import requests
from nova import exception as nova_exception
from nova.compute import task_states
from nova.tests import fixtures as nova_fixtures
from nova.virt import driver as nova_driver
from nova.virt import fake as nova_fake
from nova.virt.libvirt import driver as libvirt_driver
from oslo_config import cfg

from nova_snapshot_driver import conf
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.private_files import Directory
from nova_snapshot_driver.nova.compute import LibvirtSnapshotDriver
from nova_snapshot_driver.nova.errors import SnapshotFailed
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from tests.faults import Fault
from tests.faults import Interposer
from tests.faults import Kind
from tests.faults import Step
from tests.nova.base import NovaCase
from tests.nova.host import COMPUTE_DRIVER
from tests.nova.host import GLOBAL_REQUEST_ID
from tests.nova.host import PATIENCE
from tests.nova.host import REQUIRES_QUIESCE
from tests.nova.host import USER_TOKEN
from tests.nova.host import ComputeCase
from tests.nova.host import ComputeHost
from tests.nova.host import Hold
from tests.nova.host import TaskState
from tests.nova.host import instance
from tests.nova.keystone import FakeKeystone
from tests.unit import documents
from tests.unit import tables
from tests.unit.fake_data_plane import CONTENT
from tests.unit.fake_glance import unavailable
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.fake_libvirt import Machine
from tests.unit.host import DEVICES

CONF = nova.conf.CONF

OTHER = 'b1c1f0f4-7d0e-4d8c-9a39-93a1d3a6f0d2'

#: In a namespace of a pool, where Nova never has one.
NETWORK_DISK = documents.rbd_disk('vms/a-namespace/8a6f3f5e_disk')


class LoadTest(NovaCase):
    """Nova finds the driver."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(nova_fixtures.LibvirtFixture())

    def test_by_the_name_in_the_documentation(self) -> None:
        driver = nova_driver.load_compute_driver(
            nova_fake.FakeVirtAPI(), COMPUTE_DRIVER
        )
        self.assertIs(LibvirtSnapshotDriver, type(driver))
        self.assertIsInstance(driver, libvirt_driver.LibvirtDriver)

    def test_by_the_option(self) -> None:
        self.flags(compute_driver=COMPUTE_DRIVER)
        driver = nova_driver.load_compute_driver(nova_fake.FakeVirtAPI())
        self.assertIs(LibvirtSnapshotDriver, type(driver))

    def test_nova_has_its_own_driver_too(self) -> None:
        driver = nova_driver.load_compute_driver(
            nova_fake.FakeVirtAPI(), 'libvirt.LibvirtDriver'
        )
        self.assertIs(libvirt_driver.LibvirtDriver, type(driver))

    def test_capabilities_are_those_of_nova(self) -> None:
        ours, theirs = (
            nova_driver.load_compute_driver(nova_fake.FakeVirtAPI(), name)
            for name in (COMPUTE_DRIVER, 'libvirt.LibvirtDriver')
        )
        self.assertEqual(theirs.capabilities, ours.capabilities)


class SignaturesTest(NovaCase):
    """Nova calls this driver as it calls any."""

    def test_public_methods_are_those_of_any_driver(self) -> None:
        theirs, ours = (
            public_methods(driver)
            for driver in (nova_driver.ComputeDriver, LibvirtSnapshotDriver)
        )
        differences = {
            name: (theirs.get(name), parameters)
            for name, parameters in ours.items()
            if parameters != theirs.get(name)
        }
        self.assertEqual({}, differences)


def public_methods(driver: type[Any]) -> dict[str, list[inspect.Parameter]]:
    """The parameters of each method by its name, without annotations."""
    return {
        name: [
            parameter.replace(annotation=inspect.Parameter.empty)
            for parameter in inspect.signature(method).parameters.values()
        ]
        for name, method in inspect.getmembers(driver, inspect.isroutine)
        if not name.startswith('_')
    }


class OptionsTest(NovaCase):
    def test_registered(self) -> None:
        for opt in conf.snapshot_opts:
            # Reading raises where the option is unknown, or its default
            # invalid.
            CONF.snapshot[opt.dest]

    def test_registered_twice(self) -> None:
        """nova-compute may load a driver more than once."""
        conf.register_opts(CONF)

    def test_nova_has_no_group_of_that_name(self) -> None:
        known = {opt.dest for opt in conf.snapshot_opts}
        self.assertEqual(known, set(CONF.snapshot))

    def test_state_directory_is_beside_the_instances(self) -> None:
        self.flags(state_path='/srv/nova')
        self.assertEqual(
            '/srv/nova/snapshot-driver', CONF.snapshot.state_directory
        )

    def test_options_of_nova_are_nova_s_own(self) -> None:
        """A command reads nova.conf as nova-compute does."""
        for group, opts in conf.nova_opts.items():
            for ours in opts:
                if (group, ours.dest) in OF_OUR_OWN:
                    continue
                theirs = CONF._get_opt_info(ours.dest, group)['opt']
                self.assertIsNot(ours, theirs)
                self.assertEqual(
                    (type(theirs), _choices(theirs)),
                    (type(ours), _choices(ours)),
                    ours.dest,
                )

    def test_defaults_are_nova_s_own(self) -> None:
        ours = conf.load([])
        for group, opts in conf.nova_opts.items():
            for opt in opts:
                if (group, opt.dest) in OF_OUR_OWN:
                    continue
                self.assertEqual(
                    CONF._get_opt_info(opt.dest, group)['opt'].default,
                    ours._get_opt_info(opt.dest, group)['opt'].default,
                    opt.dest,
                )


#: The first has the default that packages of Nova set. The second is
#: keystoneauth's, where it is a fraction of late and has no default: Nova
#: waits for Glance for ever.
OF_OUR_OWN = {(None, 'state_path'), ('glance', 'timeout')}


def _choices(opt: cfg.Opt) -> list[str]:
    return list(getattr(opt.type, 'choices', None) or ())


class SnapshotTest(ComputeCase):
    def test_image_is_active(self) -> None:
        self.host.take()
        self.assertEqual(CONTENT, self.host.glance.content[self.host.image])
        self.assertEqual([], self.host.upstream_snapshot.calls)
        self.assert_given_back()

    def test_image_is_described_as_upstream_does(self) -> None:
        kernel, ramdisk = 'a-kernel', 'a-ramdisk'
        self.host.take(
            instance(os_type='linux', kernel_id=kernel, ramdisk_id=ramdisk)
        )
        image = self.host.glance.images[self.host.image]
        expected = {
            'name': 'a snapshot',
            'status': 'active',
            'disk_format': 'qcow2',
            'container_format': 'bare',
            'kernel_id': kernel,
            'ramdisk_id': ramdisk,
            'os_type': 'linux',
            'owner_id': documents.PROJECT,
            'image_location': 'snapshot',
            'image_state': 'available',
        }
        self.assertEqual(
            expected, {name: image.get(name) for name in expected}
        )

    def test_task_states(self) -> None:
        self.host.take()
        self.assertEqual(
            [
                (
                    task_states.IMAGE_PENDING_UPLOAD,
                    task_states.IMAGE_SNAPSHOT,
                ),
                (
                    task_states.IMAGE_UPLOADING,
                    task_states.IMAGE_PENDING_UPLOAD,
                ),
            ],
            self.host.task_state.updates,
        )
        # The task state is the one that nova-compute expects at the end.
        self.assertEqual(task_states.IMAGE_UPLOADING, self.host.task_state.now)

    def test_expected_state_is_left_to_nova_compute_at_first(self) -> None:
        """nova-compute sets the first expected state.

        A backup has another one than a snapshot, and shelving maps all of
        them.
        """
        updates: list[dict[str, Any]] = []
        self.host.compute.snapshot(
            self.host.request_context,
            self.host.instance,
            self.host.image,
            lambda **update: updates.append(update),
        )
        self.assertNotIn('expected_state', updates[0])

    def test_caller_that_keeps_no_task_state(self) -> None:
        """As for a resize to another cell."""
        self.host.compute.snapshot(
            self.host.request_context,
            self.host.instance,
            self.host.image,
            lambda *args, **kwargs: None,
        )
        self.assertEqual(CONTENT, self.host.glance.content[self.host.image])
        self.assertEqual([], self.host.task_state.updates)
        self.assert_given_back()

    def test_guest_is_quiesced_where_the_image_has_an_agent(self) -> None:
        self.host.take()
        image = self.host.glance.images[self.host.image]
        self.assertEqual('true', image['snapshot_quiesced'])

    def test_agent_that_is_not_announced_is_not_asked(self) -> None:
        self.host.take(instance(system_metadata={}))
        image = self.host.glance.images[self.host.image]
        self.assertEqual('false', image['snapshot_quiesced'])
        self.assertIn('hw_qemu_guest_agent', image['snapshot_quiesced_reason'])

    def test_options_of_nova_are_obeyed(self) -> None:
        self.flags(
            group='libvirt',
            snapshot_image_format='qcow2',
            snapshot_compression=True,
        )
        self.flags(group='workarounds', disable_libvirt_livesnapshot=True)
        self.flags(group='snapshot', compression_type='zlib')
        self.host.take()
        image = self.host.glance.images[self.host.image]
        self.assertEqual('cold', image['snapshot_method'])
        self.assertEqual(
            Encoding('qcow2', 'zlib', 1), self.host.data_plane.encoding
        )

    def test_glance_sees_the_user(self) -> None:
        self.host.take()
        seen = {
            (
                request.headers.get('X-Auth-Token'),
                request.headers.get('X-Service-Token'),
                request.headers.get('X-OpenStack-Request-ID'),
            )
            for request in self.host.glance.requests
            if request.headers
        }
        self.assertEqual({(USER_TOKEN, None, GLOBAL_REQUEST_ID)}, seen)

    def test_upload_gets_a_service_token_of_its_own(self) -> None:
        keystone = self.useFixture(FakeKeystone())
        keystone.configure()
        keystone.lifetime = 30
        self.flags(group='service_user', send_service_user_token=True)
        self.host.take()
        access = self.host.data_plane.accesses[-1]
        self.assertEqual(keystone.tokens[-1], access.service_token)
        self.assertNotEqual(keystone.tokens[0], access.service_token)

    def test_log_holds_no_token(self) -> None:
        keystone = self.useFixture(FakeKeystone())
        keystone.configure()
        self.flags(group='service_user', send_service_user_token=True)
        self.host.take()
        self.assertIn('is taken: vda', self.host.log.output)
        for secret in (USER_TOKEN, 's3cret', *keystone.tokens):
            self.assertNotIn(secret, self.host.log.output)

    def test_no_domain(self) -> None:
        self.assertRaises(
            nova_exception.InstanceNotRunning,
            self.host.take,
            instance(uuid=OTHER),
        )
        self.assertEqual([], self.host.task_state.updates)
        self.assert_image_is_untouched()

    def test_domain_vanishes_meanwhile(self) -> None:
        """As in upstream's ``test_failing_domain_not_found``."""
        fault = Fault(Step(0, 'backupBegin', 1), Kind.MEANWHILE)
        with Interposer(
            self.host.connection, fault, self.host.machine.vanish
        ) as interposer:
            self.host.connection = interposer.connection
            self.assertRaises(nova_exception.InstanceNotFound, self.host.take)
        self.assert_image_is_gone()

    def test_guest_is_shut_down_meanwhile(self) -> None:
        """The disk is at rest then, and is the instant that was asked for."""
        fault = Fault(Step(0, 'backupBegin', 1), Kind.MEANWHILE)
        with Interposer(
            self.host.connection, fault, self.host.machine.stop
        ) as interposer:
            self.host.connection = interposer.connection
            self.host.take()
        image = self.host.glance.images[self.host.image]
        self.assertEqual('active', image['status'])
        self.assertEqual('cold', image['snapshot_method'])

    def test_libvirt_bears_no_backup_job(self) -> None:
        """The disk is copied then, and the task states are the same."""
        self.host.machine.refusals['backupBegin'] = 1
        self.host.take()
        image = self.host.glance.images[self.host.image]
        self.assertEqual('active', image['status'])
        self.assertEqual('mirror', image['snapshot_method'])
        self.assertEqual(
            [task_states.IMAGE_PENDING_UPLOAD, task_states.IMAGE_UPLOADING],
            [state for state, _expected in self.host.task_state.updates],
        )
        self.assertEqual([], self.host.upstream_snapshot.calls)
        self.assert_given_back()

    def test_libvirt_is_restarted(self) -> None:
        """The guest is given back by the connection that Nova has then."""
        host = self.host
        first = host.connection
        absences = [nova_exception.HypervisorUnavailable()]

        def connection() -> Any:
            if host.connection is not first and absences:
                raise absences.pop()
            return host.connection

        def restart() -> None:
            host.connection = first.restart()

        self.useFixture(
            fixtures.MockPatchObject(
                host.compute._host, 'get_connection', connection
            )
        )
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.hypervisor.host.RESTART_INTERVAL', 0
            )
        )
        before = host.before()
        host.data_plane.at_extract = restart
        # A disk that is read without libvirt makes a complete image.
        host.take()
        self.assertEqual([], absences)
        self.assertEqual([], host.differences(before))

    def test_libvirt_is_away(self) -> None:
        """Nova says so in its own words."""

        def refuse() -> None:
            raise nova_exception.HypervisorUnavailable

        self.useFixture(
            fixtures.MockPatchObject(
                self.host.compute._host, 'get_connection', refuse
            )
        )
        self.assertRaises(nova_exception.HypervisorUnavailable, self.host.take)
        self.assert_image_is_untouched()


#: States in which Nova's own driver suspends no guest.
STATES = {
    'asleep': (libvirt.VIR_DOMAIN_PMSUSPENDED,),
    'crashed': (libvirt.VIR_DOMAIN_CRASHED,),
    'shutting_down': (libvirt.VIR_DOMAIN_SHUTDOWN,),
}


@ddt.ddt
class RefusedTest(NovaCase):
    """Snapshots that are left to Nova's own driver."""

    def goes_to_nova(self, host: ComputeHost, reason: str) -> None:
        before = host.before()
        host.upstream_snapshot.at_call = lambda: self.assertEqual(
            ([], 'queued'),
            (
                host.task_state.updates,
                host.glance.images[host.image]['status'],
            ),
        )
        host.take()
        [((*request, update_task_state), named)] = host.upstream_snapshot.calls
        self.assertEqual(
            [host.request_context, host.instance, host.image], request
        )
        self.assertEqual({}, named)
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        self.assertEqual(task_states.IMAGE_PENDING_UPLOAD, host.task_state.now)
        self.assertEqual([], host.differences(before))
        self.assertEqual('queued', host.glance.images[host.image]['status'])
        warning = next(
            line
            for line in host.log.output.splitlines()
            if line.startswith('WARNING nova_snapshot_driver')
        )
        self.assertIn("Nova's own driver takes the snapshot", warning)
        self.assertIn(reason, warning)

    def on(self, devices: str = DEVICES, **how: Any) -> ComputeHost:
        host: ComputeHost = self.useFixture(ComputeHost(devices, **how))
        return host

    @tables.rows({'lxc': ('lxc',), 'parallels': ('parallels',)})
    def test_hypervisor_that_is_not_qemu(self, virt_type: str) -> None:
        """Other hypervisors lack half of the calls: none is tried."""
        self.flags(group='libvirt', virt_type=virt_type)
        host = self.on()
        self.goes_to_nova(host, f'virt_type is {virt_type}')
        self.assertEqual([], host.glance.requests)

    def test_disk_in_the_network(self) -> None:
        self.goes_to_nova(
            self.on(NETWORK_DISK + documents.CHANNEL), 'on network storage'
        )

    def test_image_says_nothing_of_how_its_base_was_made(self) -> None:
        """The property is inherited where the base is a snapshot of ours."""
        host = self.on(NETWORK_DISK)
        host.glance.images[host.image] |= {
            'snapshot_method': 'mirror',
            'snapshot_quiesced': 'true',
            'architecture': 'x86_64',
        }
        host.take()
        image = host.glance.images[host.image]
        self.assertEqual('x86_64', image['architecture'])
        self.assertEqual([], [each for each in image if 'snapshot_' in each])

    def test_no_disk(self) -> None:
        self.goes_to_nova(self.on(documents.CDROM), 'it has no disk')

    def unreadable_disk(self) -> str:
        """The path of a disk that nova-compute may not read."""
        disk = os.path.join(self.useFixture(fixtures.TempDir()).path, 'disk')
        with open(disk, 'w', encoding='utf-8'):
            pass
        # root, who runs some tests, may read everything.
        may = os.access
        self.useFixture(
            fixtures.MockPatch(
                'os.access',
                lambda path, mode: path != disk and may(path, mode),
            )
        )
        return disk

    def test_disk_that_this_user_may_not_read(self) -> None:
        disk = self.unreadable_disk()
        host = self.on(
            documents.file_disk(disk), state=libvirt.VIR_DOMAIN_SHUTOFF
        )
        self.goes_to_nova(host, f'may not read its disk {disk}')

    def test_disk_that_qemu_reads_for_this_user(self) -> None:
        host = self.on(documents.file_disk(self.unreadable_disk()))
        host.take()
        self.assertEqual([], host.upstream_snapshot.calls)
        self.assertEqual('active', host.glance.images[host.image]['status'])

    def test_method_that_is_forced(self) -> None:
        host = self.on(state=libvirt.VIR_DOMAIN_SHUTOFF)
        host.set('snapshot', 'method', 'mirror')
        self.goes_to_nova(host, 'the method mirror is forced')

    # Refusals that are not left to Nova: an image without the required freeze.

    def assert_refused_for_want_of_a_freeze(self, host: ComputeHost) -> None:
        before = host.before()
        error = self.assertRaises(
            nova_exception.InstanceQuiesceFailed, host.take_and_clean_up
        )
        self.assertIn("Nova's own driver takes the snapshot", str(error))
        self.assertEqual([], host.upstream_snapshot.calls)
        self.assertEqual([], host.task_state.updates)
        self.assertEqual([], host.differences(before))
        self.assertNotIn(host.image, host.glance.images)

    def that_requires_quiescing(
        self, devices: str = DEVICES, **how: Any
    ) -> ComputeHost:
        host = self.on(devices, **how)
        host.instance = instance(system_metadata=REQUIRES_QUIESCE)
        return host

    @tables.rows(
        {
            'running': (libvirt.VIR_DOMAIN_RUNNING,),
            'paused': (libvirt.VIR_DOMAIN_PAUSED,),
        }
    )
    def test_nova_freezes_nothing(self, state: int) -> None:
        self.assert_refused_for_want_of_a_freeze(
            self.that_requires_quiescing(
                NETWORK_DISK + documents.CHANNEL, state=state
            )
        )

    def test_nova_freezes_nothing_of_a_guest_that_is_suspended(self) -> None:
        host = self.that_requires_quiescing(NETWORK_DISK)
        FakeDomain(host.machine).managedSave(0)
        self.assert_refused_for_want_of_a_freeze(host)

    def test_nova_freezes_nothing_on_a_disk_that_is_not_read(self) -> None:
        host = self.that_requires_quiescing(
            documents.file_disk(self.unreadable_disk()) + documents.CHANNEL
        )
        # A backup job is read by QEMU.
        host.set('snapshot', 'method', 'mirror')
        self.assert_refused_for_want_of_a_freeze(host)

    def test_nova_freezes_nothing_in_a_container(self) -> None:
        self.flags(group='libvirt', virt_type='lxc')
        self.assert_refused_for_want_of_a_freeze(
            self.that_requires_quiescing()
        )

    def test_nova_freezes_nothing_where_an_option_requires_it(self) -> None:
        host = self.on(NETWORK_DISK)
        host.set('snapshot', 'quiesce', 'require')
        self.assert_refused_for_want_of_a_freeze(host)

    @tables.rows({'network': ('kvm', NETWORK_DISK), 'lxc': ('lxc', DEVICES)})
    def test_guest_that_is_shut_off_needs_no_freeze(
        self, virt_type: str, devices: str
    ) -> None:
        self.flags(group='libvirt', virt_type=virt_type)
        host = self.that_requires_quiescing(
            devices, state=libvirt.VIR_DOMAIN_SHUTOFF
        )
        self.goes_to_nova(host, '')

    # Nor the disk of a guest that runs.

    def goes_back(self, host: ComputeHost, *steps: Callable[[], Any]) -> None:
        """Have upstream take a snapshot, with Ceph first.

        :param steps: what it does before it goes back to the standard way
        """

        def snapshot() -> None:
            update: Any = host.upstream_snapshot.calls[-1][0][-1]
            update(task_state=task_states.IMAGE_PENDING_UPLOAD)
            update(
                task_state=task_states.IMAGE_UPLOADING,
                expected_state=task_states.IMAGE_PENDING_UPLOAD,
            )
            for step in steps:
                step()
            update(
                task_state=task_states.IMAGE_PENDING_UPLOAD,
                expected_state=task_states.IMAGE_UPLOADING,
            )

        host.upstream_snapshot.at_call = snapshot

    @tables.rows(
        {
            'by_a_workaround': ('workarounds', 'disable_libvirt_livesnapshot'),
            'by_encryption': ('ephemeral_storage_encryption', 'enabled'),
        }
    )
    def test_disk_of_a_guest_that_was_resumed_is_not_read(
        self, group: str, option: str
    ) -> None:
        """Upstream has resumed it when Glance refuses the clone in Ceph, and
        reads the disk while the guest writes to it.
        """
        host = self.on(NETWORK_DISK)
        host.set(group, option, True)
        before = host.before()
        domain = FakeDomain(host.machine)
        self.goes_back(
            host,
            lambda: domain.managedSave(0),
            lambda: domain.createWithFlags(0),
        )
        error = self.assertRaises(SnapshotFailed, host.take_and_clean_up)
        self.assertIn('disk-in-use', str(error))
        self.assertEqual(task_states.IMAGE_UPLOADING, host.task_state.now)
        self.assertEqual([], host.differences(before))
        self.assertNotIn(host.image, host.glance.images)

    def test_disk_of_a_guest_that_is_suspended_is_read(self) -> None:
        """Ceph has refused the clone: the guest was not resumed."""
        host = self.on(NETWORK_DISK)
        host.set('workarounds', 'disable_libvirt_livesnapshot', True)
        before = host.before()
        self.goes_back(host, lambda: FakeDomain(host.machine).managedSave(0))
        host.take()
        self.assertEqual(task_states.IMAGE_PENDING_UPLOAD, host.task_state.now)
        self.assertEqual([], host.differences(before))

    def test_guest_that_is_live_is_suspended_later(self) -> None:
        host = self.on(NETWORK_DISK)
        self.goes_back(host)
        host.take()
        self.assertEqual(task_states.IMAGE_PENDING_UPLOAD, host.task_state.now)

    def test_disk_of_a_guest_that_was_started_is_not_read(self) -> None:
        """By somebody, meanwhile: it was shut off."""
        host = self.on(NETWORK_DISK, state=libvirt.VIR_DOMAIN_SHUTOFF)
        self.goes_back(host, host.machine.start)
        error = self.assertRaises(SnapshotFailed, host.take)
        self.assertIn('disk-in-use', str(error))

    @tables.rows(STATES)
    def test_guest_that_is_not_suspended(self, state: int) -> None:
        """Nova's own driver reads its disk, and asks nothing before."""
        host = self.on(state=state)
        host.set('workarounds', 'disable_libvirt_livesnapshot', True)
        self.goes_to_nova(host, 'cannot be snapshotted')

    @tables.rows(STATES)
    def test_disk_in_the_network_in_any_state(self, state: int) -> None:
        self.goes_to_nova(
            self.on(NETWORK_DISK, state=state), 'cannot be snapshotted'
        )

    @tables.rows(STATES)
    def test_guest_that_nova_suspends_all_the_same(self, state: int) -> None:
        """Nova's driver leaves no guest suspended, whatever it has found."""
        host = self.on(NETWORK_DISK, state=state)
        host.upstream_snapshot.at_call = lambda: FakeDomain(
            host.machine
        ).managedSave(0)
        host.take()
        self.assertEqual(1, len(host.upstream_snapshot.calls))
        self.assertTrue(host.machine.active)

    @tables.rows(STATES)
    def test_freeze_of_a_guest_that_stands_still(self, state: int) -> None:
        host = self.that_requires_quiescing(NETWORK_DISK, state=state)
        self.assert_refused_for_want_of_a_freeze(host)

    def test_nova_fails(self) -> None:
        error = nova_exception.ImageNotFound(image_id='x')
        host = self.on(NETWORK_DISK)

        def fail() -> None:
            raise error

        host.upstream_snapshot.at_call = fail
        raised = self.assertRaises(nova_exception.ImageNotFound, host.take)
        self.assertIs(error, raised)

    def test_nova_fails_and_leaves_the_guest_suspended(self) -> None:
        """Nova's driver fails with RBD on any error that it does not expect.

        Such an error is a time-out, or its own update of the task state.
        """
        host = self.on(NETWORK_DISK)
        before = host.before()

        def suspend_and_fail() -> None:
            FakeDomain(host.machine).managedSave(0)
            raise ERRORS_OF_NOVA['unexpected']

        host.upstream_snapshot.at_call = suspend_and_fail
        self.assertRaises(nova_exception.UnexpectedTaskStateError, host.take)
        self.assertEqual([], host.differences(before))

    def test_guest_is_given_back_though_libvirt_refuses_once(self) -> None:
        host = self.on(NETWORK_DISK)
        before = host.before()

        def suspend_and_fail() -> None:
            FakeDomain(host.machine).managedSave(0)
            host.machine.refusals['createWithFlags'] = 1
            raise ERRORS_OF_NOVA['unexpected']

        host.upstream_snapshot.at_call = suspend_and_fail
        self.assertRaises(nova_exception.UnexpectedTaskStateError, host.take)
        self.assertEqual([], host.differences(before))

    def test_instance_is_deleted_while_nova_takes_the_snapshot(self) -> None:
        """Nothing is to be given back then, now or later."""
        host = self.on(NETWORK_DISK)
        error = ERRORS_OF_NOVA['gone']

        def delete_and_fail() -> None:
            host.compute.destroy(host.request_context, host.instance, [])
            raise error

        host.upstream_destroy.at_call = host.machine.vanish
        host.upstream_snapshot.at_call = delete_and_fail
        raised = self.assertRaises(nova_exception.InstanceNotFound, host.take)
        self.assertIs(error, raised)
        self.assertNotIn('CRITICAL', host.log.output)
        host.compute.init_host('a-host')
        self.assertTrue(host.machine.gone)

    def test_nova_fails_and_leaves_the_domain_transient(self) -> None:
        host = self.on(NETWORK_DISK)
        before = host.before()

        def undefine_and_fail() -> None:
            FakeDomain(host.machine).undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
                | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
            )
            raise ERRORS_OF_NOVA['unexpected']

        host.upstream_snapshot.at_call = undefine_and_fail
        self.assertRaises(nova_exception.UnexpectedTaskStateError, host.take)
        self.assertEqual([], host.differences(before))

    def test_no_two_at_a_time(self) -> None:
        host = self.on(NETWORK_DISK)
        image = host.glance.add(name='another snapshot')
        errors: list[Exception] = []

        def take_another() -> None:
            host.upstream_snapshot.at_call = lambda: None
            errors.append(
                self.assertRaises(SnapshotFailed, host.take, image=image)
            )

        host.upstream_snapshot.at_call = take_another
        host.take()
        self.assertIn('domain-busy', str(errors))


#: The errors that ``instance.save()`` raises.
ERRORS_OF_NOVA = {
    'unexpected': nova_exception.UnexpectedTaskStateError(
        instance_uuid=documents.UUID,
        expected={'task_state': [task_states.IMAGE_SNAPSHOT]},
        actual={'task_state': None},
    ),
    'deleting': nova_exception.UnexpectedDeletingTaskStateError(
        instance_uuid=documents.UUID,
        expected={'task_state': [task_states.IMAGE_SNAPSHOT]},
        actual={'task_state': task_states.DELETING},
    ),
    'gone': nova_exception.InstanceNotFound(instance_id=documents.UUID),
}


@ddt.ddt
class TaskStateErrorTest(ComputeCase):
    """Errors of ``update_task_state``, which are nova-compute's to handle."""

    @tables.rows(
        {
            f'{name}_{path}_{number}': (error, path, number)
            for name, error in ERRORS_OF_NOVA.items()
            for path in ('backup', 'mirror', 'cold')
            for number in (1, 2)
        }
    )
    def test_passes_unchanged_and_the_guest_is_given_back(
        self, error: Exception, path: str, number: int
    ) -> None:
        """Upstream suspends the guest before it updates the task state,
        outside of any ``try``: where the update fails, the guest stays
        suspended for good.
        """
        self.host.set('snapshot', 'method', path)
        self.host.task_state.troubles[number] = error
        raised = self.assertRaises(type(error), self.host.take)
        self.assertIs(error, raised)
        self.assert_given_back()
        self.assert_image_is_gone()

    @tables.rows({name: (error,) for name, error in ERRORS_OF_NOVA.items()})
    def test_passes_where_glance_is_away(self, error: Exception) -> None:
        """An image that is left behind is no reason to hide what happened.

        nova-compute resets the task state for any error that it does not
        know, also that of an instance that is being deleted.
        """
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.clients.glance.DELETE_TIMEOUT', 0
            )
        )
        # The first four ask for the image, twice with its schema.
        for number in range(5, 100):
            self.host.glance.troubles[number] = unavailable
        self.host.task_state.troubles[1] = error
        raised = self.assertRaises(type(error), self.host.take)
        self.assertIs(error, raised)
        self.assertIn('could not be deleted', self.host.log.output)


@ddt.ddt
class DestroyTest(ComputeCase):
    """An instance is deleted."""

    def destroy(self, of: Any = None, **how: Any) -> None:
        self.host.compute.destroy(
            self.host.request_context, of or self.host.instance, [], **how
        )

    def assert_destroyed(self, *how: Any) -> None:
        """Nova's own driver was called once, with these arguments."""
        request = (self.host.request_context, self.host.instance, [], *how)
        self.assertEqual([(request, {})], self.host.upstream_destroy.calls)

    def test_arguments_reach_nova(self) -> None:
        self.destroy(
            block_device_info={}, destroy_disks=False, destroy_secrets=False
        )
        self.assert_destroyed({}, False, False)

    def test_defaults_are_those_of_nova(self) -> None:
        self.destroy()
        self.assert_destroyed(None, True, True)

    def test_running_snapshot_has_given_the_guest_back_before(self) -> None:
        """Upstream's snapshot can't be stopped. It finds the domain gone
        in the end, or defines it again under the hands of its deletion.
        """
        hold = self.host.hold_extraction()
        snapshot = self.host.begin()
        hold.wait_until_reached()
        found: list[str] = []

        def look() -> None:
            found.extend(self.host.differences(self.before))
            self.assertTrue(snapshot.done())

        self.host.upstream_destroy.at_call = look
        self.destroy()
        self.assertEqual([], found)
        self.assertEqual(1, len(self.host.upstream_destroy.calls))
        self.assertIsInstance(
            snapshot.exception(PATIENCE), nova_exception.InstanceNotFound
        )
        self.assert_image_is_gone()

    def test_guest_that_is_suspended_is_given_back_before(self) -> None:
        self.host.set('snapshot', 'method', 'cold')
        hold = self.host.hold_extraction()
        snapshot = self.host.begin()
        hold.wait_until_reached()
        self.assertFalse(self.host.machine.active)
        self.destroy()
        self.assert_given_back()
        self.assertIsInstance(
            snapshot.exception(PATIENCE), nova_exception.InstanceNotFound
        )

    def test_copy_is_cancelled(self) -> None:
        self.host.set('snapshot', 'method', 'mirror')
        self.host.machine.polls_until_ready = 1_000_000
        snapshot = self.host.begin()
        self.wait_until(lambda: bool(self.host.machine.jobs))
        self.destroy()
        self.assert_given_back()
        self.assertIsInstance(
            snapshot.exception(PATIENCE), nova_exception.InstanceNotFound
        )

    def wait_until(self, condition: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), deadline, 'it never happened')
            time.sleep(0.005)

    def test_snapshot_that_does_not_end_is_waited_for_no_longer(self) -> None:
        self.host.set('snapshot', 'cancel_timeout', 1)
        hold = self.host.hold_upload()
        snapshot = self.host.begin()
        hold.wait_until_reached()
        begin = wait.CLOCK.monotonic()
        self.destroy()
        self.assertGreaterEqual(wait.CLOCK.monotonic() - begin, 1)
        self.assertFalse(snapshot.done())
        self.assertEqual(1, len(self.host.upstream_destroy.calls))
        self.assertIn('not given the guest back within 1 s', self.log())
        hold.release()
        self.assertIsInstance(
            snapshot.exception(PATIENCE), nova_exception.InstanceNotFound
        )

    def log(self) -> str:
        return str(self.host.log.output)

    @tables.rows(
        {
            'backup': ('backup', Step(0, 'backupGetXMLDesc', 2)),
            # The first look at the copy.
            'mirror': ('mirror', Step(0, 'blockJobInfo', 2)),
        }
    )
    def test_domain_stays_gone_that_was_waited_for_no_longer(
        self, path: str, step: Step
    ) -> None:
        """libvirt hangs in the middle of the job, and comes back later."""
        self.host.set('snapshot', 'method', path)
        self.host.set('snapshot', 'cancel_timeout', 1)
        hold = Hold()
        self.addCleanup(hold.release)
        fault = Fault(step, Kind.MEANWHILE)
        self.host.connection = Interposer(
            self.host.connection, fault, hold
        ).connection

        self.host.upstream_destroy.at_call = self.host.machine.vanish
        snapshot = self.host.begin()
        hold.wait_until_reached()
        self.destroy()
        hold.release()
        self.assertIsNotNone(snapshot.exception(PATIENCE))
        self.assertTrue(self.host.machine.gone)

    def test_snapshots_of_other_instances_go_on(self) -> None:
        other = self.other_guest()
        image = self.host.glance.add(name='another snapshot')
        hold = self.host.hold_extraction()
        snapshot = self.host.begin()
        hold.wait_until_reached()
        other_hold = self.host.hold_extraction()
        other_snapshot = self.host.begin(instance(uuid=OTHER), image)
        other_hold.wait_until_reached()
        self.destroy()
        self.assertIsInstance(
            snapshot.exception(PATIENCE), nova_exception.InstanceNotFound
        )
        other_hold.release()
        other_snapshot.result(PATIENCE)
        self.assertEqual('active', self.host.glance.images[image]['status'])
        self.assertTrue(other.active)

    def other_guest(self) -> Machine:
        machine = self.host.connection.add(
            documents.inactive(DEVICES, name='instance-0000002b', uuid=OTHER)
        )
        machine.start()
        return machine

    def test_second_snapshot_does_not_hide_the_first(self) -> None:
        image = self.host.glance.add(name='another snapshot')
        hold = self.host.hold_extraction()
        snapshot = self.host.begin()
        hold.wait_until_reached()
        error = self.assertRaises(SnapshotFailed, self.host.take, image=image)
        self.assertIn('domain-busy', str(error))
        self.assertNotIn(image, self.host.glance.images)
        self.destroy()
        self.assertIsInstance(
            snapshot.exception(PATIENCE), nova_exception.InstanceNotFound
        )
        self.assert_given_back()

    def test_snapshot_after_it(self) -> None:
        """A hard reboot destroys the domain too, and then it goes on."""
        hold = self.host.hold_extraction()
        snapshot = self.host.begin()
        hold.wait_until_reached()
        self.destroy()
        self.assertIsNotNone(snapshot.exception(PATIENCE))
        image = self.host.glance.add(name='another snapshot')
        self.host.take(image=image, task_state=TaskState())
        self.assertEqual('active', self.host.glance.images[image]['status'])


class CleanupHostTest(ComputeCase):
    """nova-compute stops, and waits for its tasks no longer."""

    def stop(self) -> None:
        self.host.compute.cleanup_host(host='a-host')
        self.assertEqual(1, len(self.host.upstream_cleanup_host.calls))

    def test_no_snapshot(self) -> None:
        self.stop()
        self.assert_given_back()

    def test_snapshot_is_cancelled_and_waited_for(self) -> None:
        """Upstream's dies with the process: the copy runs on, and the domain
        is lost when the guest powers off.
        """
        hold = self.host.hold_extraction()
        snapshot = self.host.begin()
        hold.wait_until_reached()
        found: list[str] = []

        def look() -> None:
            found.extend(self.host.differences(self.before))
            self.assertTrue(snapshot.done())

        self.host.upstream_cleanup_host.at_call = look
        self.stop()
        self.assertEqual([], found)
        self.assertIn('cancelled-by-stop', str(snapshot.exception(PATIENCE)))
        self.assert_image_is_gone()

    def test_none_begins_afterwards(self) -> None:
        self.stop()
        snapshot = self.host.begin()
        self.assertIn('cancelled-by-stop', str(snapshot.exception(PATIENCE)))
        self.assert_given_back()


class InitHostTest(ComputeCase):
    """nova-compute starts."""

    def setUp(self) -> None:
        super().setUp()
        self.keystone = self.useFixture(FakeKeystone())
        self.keystone.configure()
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.clients.glance.DELETE_TIMEOUT', 0
            )
        )

    def start(self) -> None:
        self.host.compute.init_host('a-host')
        self.assertEqual(
            (('a-host',), {}), self.host.upstream_init_host.calls[-1]
        )

    def test_nothing_to_heal(self) -> None:
        self.start()
        self.assert_given_back()
        self.assertEqual([], self.host.glance.requests)
        self.assertEqual([], self.keystone.tokens)

    def test_healed_after_nova_is_ready_and_before_it_begins(self) -> None:
        """Upstream's copy runs on for ever, and multiplies what each
        write of the guest costs; its domain is lost when the guest powers
        off; delta and image stay.
        """
        self.host.die_in_mid_copy()
        found: list[str] = []
        self.host.upstream_init_host.at_call = lambda: found.extend(
            self.host.differences(self.before)
        )
        self.start()
        # Not before Nova has its connection to libvirt, with its events;
        # nova-compute looks at the instances when all of it has returned.
        self.assertIn('it was persistent, and is transient', found)
        self.assert_given_back()
        self.assert_image_is_gone()

    def test_journal_that_can_not_be_read(self) -> None:
        """The other domains are healed, and nova-compute starts."""
        self.host.die_in_mid_copy()
        state = pathlib.Path(self.host.directories.state)
        damaged, shut = state / '0.json', state / '1.json'
        damaged.write_text('{')
        shut.write_text('{}')
        read = Directory.read

        def refuse(directory: Directory, name: str, most: int) -> bytes:
            if name == shut.name:
                raise PermissionError(errno.EACCES, 'Permission denied')
            return read(directory, name, most)

        with fixtures.MonkeyPatch(
            'nova_snapshot_driver.common.private_files.Directory.read', refuse
        ):
            self.start()
        for path in (f'{damaged}.unreadable', str(shut)):
            self.assertIn(f'{path} cannot be read', self.host.log.output)
            os.unlink(path)
        self.assertIn('code=state-unreadable', self.host.log.output)
        self.assert_given_back()
        self.assert_image_is_gone()

    def test_directory_that_can_not_be_read(self) -> None:
        denied = PermissionError(errno.EACCES, 'Permission denied')
        with fixtures.MockPatchObject(Directory, 'names', side_effect=denied):
            self.start()
        self.assertIn('cannot be read: Permission', self.host.log.output)

    def test_checkpoint_is_forgotten(self) -> None:
        """Nova undefines no domain of which libvirt has a checkpoint."""
        machine = self.host.machine
        machine.checkpoints['nova-snapshot-chain-1'] = 'vda'
        machine.checkpoints['virtnbdbackup.1'] = 'vda'
        self.start()
        self.assertEqual({'virtnbdbackup.1': 'vda'}, machine.checkpoints)
        del machine.checkpoints['virtnbdbackup.1']
        self.host.guest().undefine()

    def test_backup_job_is_ended(self) -> None:
        """While it runs, libvirt takes no other job of the domain, and the
        guest fills a disk with what it overwrites.
        """
        self.host.die_in_mid_stream()
        self.assertNotEqual([], self.host.differences(self.before))
        self.start()
        self.assert_given_back()
        self.assert_image_is_gone()

    def test_image_is_deleted_by_nova(self) -> None:
        self.host.die_in_mid_copy()
        self.start()
        tokens = {
            request.headers['X-Auth-Token']
            for request in self.host.glance.requests
        }
        self.assertLessEqual(tokens, set(self.keystone.tokens))

    def test_image_that_is_complete_stays(self) -> None:
        self.host.die_in_mid_copy()
        self.host.glance.images[self.host.image]['status'] = 'active'
        self.start()
        self.assert_given_back()
        self.assertIn(self.host.image, self.host.glance.images)

    def test_guest_has_stopped_meanwhile(self) -> None:
        """The domain was transient, and is not known to libvirt any more."""
        self.host.die_in_mid_copy()
        self.host.machine.stop()
        self.start()
        domain = self.host.connection.lookupByName(documents.NAME)
        self.assertTrue(domain.isPersistent())
        self.assertEqual([], os.listdir(self.host.directories.snapshots))
        self.assert_image_is_gone()

    def test_instance_that_was_deleted_stays_so(self) -> None:
        """The snapshot could not give it back before its deletion."""
        self.host.die_in_mid_copy()

        self.host.upstream_destroy.at_call = self.host.machine.vanish
        self.host.compute.destroy(
            self.host.request_context, self.host.instance, []
        )
        self.start()
        self.assertTrue(self.host.machine.gone)

    def starts_with_the_image_left(self) -> None:
        """The guest comes first; for the image there is another time."""
        self.start()
        self.assertIn(
            f'its image {self.host.image} could not be deleted',
            self.host.log.output,
        )
        self.assertEqual(
            [f'in the state directory: {documents.UUID}.json'],
            self.host.differences(self.before),
        )
        self.assertIn(self.host.image, self.host.glance.images)

    def test_glance_is_away(self) -> None:
        self.host.die_in_mid_copy()
        for number in range(100):
            self.host.glance.troubles[number] = unavailable
        self.starts_with_the_image_left()
        self.host.glance.troubles.clear()
        self.start()
        self.assert_given_back()
        self.assert_image_is_gone()

    def test_keystone_is_away(self) -> None:
        self.host.die_in_mid_copy()
        self.keystone.is_in_trouble(exc=requests.exceptions.ConnectTimeout)
        self.starts_with_the_image_left()
        self.keystone.is_well_again()
        self.start()
        self.assert_given_back()
        self.assert_image_is_gone()

    def test_nova_has_no_user(self) -> None:
        self.host.die_in_mid_copy()
        CONF.clear_override('auth_type', group='service_user')
        self.starts_with_the_image_left()
        self.assertIn('[service_user] is not configured', self.host.log.output)

    def test_state_directory_can_not_be_used(self) -> None:
        self.host.set('snapshot', 'state_directory', '/proc/nowhere')
        self.start()
        self.assertIn('/proc/nowhere cannot be used', self.host.log.output)

    def test_one_domain_can_not_be_healed(self) -> None:
        self.host.die_in_mid_copy()
        self.host.machine.refusals['blockJobAbort'] = 100
        self.start()
        self.assertIn('ERROR nova_snapshot_driver', self.host.log.output)
        # The next snapshot tries it again.
        self.host.machine.refusals.clear()
        image = self.host.glance.add(name='another snapshot')
        self.host.take(image=image)
        self.assert_given_back()

    def test_nova_can_not_start(self) -> None:
        error = nova_exception.HypervisorUnavailable()

        def fail() -> None:
            raise error

        self.host.upstream_init_host.at_call = fail
        raised = self.assertRaises(
            nova_exception.HypervisorUnavailable,
            self.host.compute.init_host,
            'a-host',
        )
        self.assertIs(error, raised)
