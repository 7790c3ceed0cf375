# SPDX-License-Identifier: Apache-2.0
"""Snapshots of root disks in Ceph, as nova-compute takes them."""

from __future__ import annotations

import errno

import libvirt
import nova.conf
from nova import exception as nova_exception
from nova.compute import task_states

from nova_snapshot_driver.clients import rbd
from nova_snapshot_driver.clients.rbd import Clone
from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.nova.errors import SnapshotFailed
from nova_snapshot_driver.state.journal import Journal
from tests.nova.host import REQUIRES_QUIESCE
from tests.nova.host import ComputeCase
from tests.nova.host import ComputeHost
from tests.nova.host import instance
from tests.nova.keystone import FakeKeystone
from tests.unit import documents
from tests.unit.entries import taken
from tests.unit.fake_ceph import CLUSTER
from tests.unit.fake_data_plane import CONTENT
from tests.unit.host import RBD_DEVICES

CONF = nova.conf.CONF

#: The task states that nova-compute sees, each with the expected one.
STATES = [
    (task_states.IMAGE_PENDING_UPLOAD, task_states.IMAGE_SNAPSHOT),
    (task_states.IMAGE_UPLOADING, task_states.IMAGE_PENDING_UPLOAD),
]


class DirectTest(ComputeCase):
    def compute_host(self) -> ComputeHost:
        host: ComputeHost = self.useFixture(ComputeHost(RBD_DEVICES))
        return host

    def image(self) -> dict[str, object]:
        return self.host.glance.images[self.host.image]

    def test_inside_ceph(self) -> None:
        self.host.take()
        self.assertEqual('active', self.image()['status'])
        self.assertEqual('raw', self.image()['disk_format'])
        self.assertEqual('direct', self.image()['snapshot_method'])
        self.assertIn(self.host.image, self.host.glance.located)
        self.assertEqual(STATES, self.host.task_state.updates)
        self.assertEqual([], self.host.upstream_snapshot.calls)
        self.assert_given_back()

    def test_options_of_nova_are_obeyed(self) -> None:
        self.flags(
            group='libvirt',
            rbd_user='compute',
            images_rbd_ceph_conf='/etc/ceph/b.conf',
        )
        self.host.take()
        for call in self.host.ceph.calls:
            self.assertEqual(
                ('--id', 'compute', '--conf', '/etc/ceph/b.conf'), call[1:5]
            )

    def test_freeze_that_is_required(self) -> None:
        self.host.take(instance(system_metadata=REQUIRES_QUIESCE))
        self.assertEqual('direct', self.image()['snapshot_method'])
        self.assertEqual('true', self.image()['snapshot_quiesced'])

    def test_freeze_that_fails(self) -> None:
        self.host.machine.freeze_fails = True
        self.host.instance = instance(system_metadata=REQUIRES_QUIESCE)
        self.assertRaises(
            nova_exception.InstanceQuiesceFailed, self.host.take_and_clean_up
        )
        self.assert_given_back()
        self.assert_image_is_gone()

    def test_glance_takes_no_location(self) -> None:
        """Upstream suspends the guest for it; the task states are fewer."""
        self.host.glance.takes_locations = False
        self.host.take()
        self.assertEqual('backup', self.image()['snapshot_method'])
        self.assertEqual(CONTENT, self.host.glance.content[self.host.image])
        self.assertEqual(STATES, self.host.task_state.updates)
        self.assertEqual([], self.host.upstream_snapshot.calls)
        state, _reason = self.host.machine.state, self.host.machine.reason
        self.assertEqual(libvirt.VIR_DOMAIN_RUNNING, state)
        self.assert_given_back()

    def test_ceph_is_full(self) -> None:
        def fail() -> None:
            raise rbd.failure('flatten', errno.ENOSPC, 'rbd: flatten error')

        self.host.data_plane.at_extract = fail
        error = self.assertRaises(SnapshotFailed, self.host.take_and_clean_up)
        self.assertIn('ceph-full', str(error))
        self.assert_given_back()
        self.assert_image_is_gone()

    def test_server_is_deleted_in_the_flatten(self) -> None:
        """Nova can delete its disk: it has no snapshot any more."""
        hold = self.host.hold_extraction()
        snapshot = self.host.begin()
        hold.wait_until_reached()
        self.host.upstream_destroy.at_call = lambda: self.assertEqual(
            [], self.host.ceph.leftovers()
        )
        self.host.compute.destroy(
            self.host.request_context, self.host.instance, []
        )
        self.assertIsInstance(
            snapshot.exception(), nova_exception.InstanceNotFound
        )
        self.assertEqual(1, len(self.host.upstream_destroy.calls))
        self.assert_image_is_gone()

    def die_in_mid_flatten(self) -> None:
        """Leave what a nova-compute leaves that dies in the flatten."""
        clone = Clone(
            RbdImage('vms', documents.RBD_IMAGE, 'nova'),
            f'nova-snapshot-{self.host.image}',
            RbdImage('images', self.host.image),
            CLUSTER,
        )
        guest = Host(self.host.connection).guest(documents.NAME)
        Journal(self.host.directories.state).remember(
            taken(
                guest.definition(), image=self.host.image, clone=clone
            ).given_back()
        )
        self.host.disk.snapshots[clone.snapshot] = True
        self.host.ceph.add(
            'images',
            self.host.image,
            parent=('vms', documents.RBD_IMAGE, clone.snapshot),
        )

    def test_killed_in_the_flatten(self) -> None:
        """The next start removes what it has left."""
        self.useFixture(FakeKeystone()).configure()
        self.die_in_mid_flatten()
        self.host.compute.init_host('a-host')
        self.assert_given_back()
        self.assertEqual({}, self.host.disk.snapshots)
        self.assert_image_is_gone()

    def test_killed_in_the_flatten_and_nobody_answers(self) -> None:
        """The next snapshot removes it, and comes to be."""
        self.die_in_mid_flatten()
        self.host.ceph.is_installed = False
        self.host.compute.init_host('a-host')
        self.assertEqual(2, len(self.host.ceph.leftovers()))
        self.host.ceph.is_installed = True
        self.host.image = self.host.glance.add(name='another snapshot')
        self.host.take()
        self.assert_given_back()
        self.assertEqual('direct', self.image()['snapshot_method'])
