# SPDX-License-Identifier: Apache-2.0
"""Snapshots whose disk is copied, and converted afterwards.

They are taken where libvirt begins no backup job, and where an option says so.
"""

from __future__ import annotations

from typing import ClassVar

from lab.cloud.configuration import Overrides
from tests.openstack import base
from tests.openstack.held import COPYING
from tests.openstack.held import PHASE_TIMEOUT
from tests.openstack.held import Phase
from tests.openstack.meanwhile import MeanwhileTest

#: Seconds
MIRROR_TIMEOUT = 20

#: A name with which the path of a socket is too long for one.
LONG = 'snapshots-' + 'x' * 100


class MirrorTest(MeanwhileTest):
    nova_compute: ClassVar[Overrides] = {
        **COPYING,
        ('compute', 'max_concurrent_disk_ops'): 1,
        ('snapshot', 'mirror_timeout'): MIRROR_TIMEOUT,
    }
    servers = 2

    def test_no_backup_job(self) -> None:
        """The method of an image, and the reason for it, stand on the image.

        What libvirt says, and of which path, is in the log alone.
        """
        directory = self.cloud.instances_path / LONG
        self.addCleanup(directory.rmdir)
        self.configure(
            {
                ('snapshot', 'method'): 'auto',
                ('libvirt', 'snapshots_directory'): directory,
            }
        )
        before = self.before(self.server)
        earliest = self.records(self.server)
        log = self.cloud.log('nova-compute')
        image = self.snapshot(self.server)
        self.assertEqual('mirror', image.properties['snapshot_method'])
        self.assertEqual(
            'there is no backup job: it is refused',
            image.properties['snapshot_method_reason'],
        )
        self.assertNotEqual([], log.grep('too long for a socket'))
        self.assertEqual('true', image.properties['snapshot_quiesced'])
        self.examine(image, earliest)
        self.assert_as_before(before)
        self.assertEqual([], list(directory.iterdir()))

    @base.depends_on_threads
    def test_server_is_deleted_while_copied(self) -> None:
        self.delete_while(Phase.MIRROR, self.new_server())

    # Nova's own driver fails here

    @base.depends_on_threads
    def test_copy_is_bounded_in_time(self) -> None:
        """Nova's driver waits for ever."""
        before = self.before(self.server)
        with self.held(Phase.MIRROR, self.server) as image:
            self.wait_for_failure(self.server, image)
            fault = self.fault_of(self.server)
            self.assertIn('(hypervisor-timeout)', fault)
            self.assertIn('[snapshot] mirror_timeout', fault)
            self.assert_as_before(before)
        self.wait_for_records(self.server)

    @base.depends_on_threads
    def test_guest_is_left_alone_while_the_disks_are_busy(self) -> None:
        """The disk is not copied before its image can be written, too.

        With Nova's driver the copy is there by then, and grows.
        """
        self.enterContext(self.others_running())
        with self.held(Phase.EXTRACT, self.server) as first:
            second = self.ask_for_snapshot(self.others[0])
            self.log.wait(
                f'{self.others[0].id}] instance snapshotting', PHASE_TIMEOUT
            )
            self.wait_for_records(self.others[0], 2)
            self.assertEqual(
                'image_snapshot',
                self.admin.compute.get_server(self.others[0].id).task_state,
            )
            with self.domain(self.others[0]) as domain:
                self.assertTrue(domain.isPersistent())
                self.assertFalse(domain.blockJobInfo('vda'))
            self.assertEqual(1, len(self.data_plane()))
        for image in (first, second):
            self.examine(self.wait_for_image(image), 1)
