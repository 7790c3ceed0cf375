# SPDX-License-Identifier: Apache-2.0
"""Snapshots whose disk is copied, and converted afterwards.

They are taken where libvirt begins no backup job, and where an option says so.
"""

from __future__ import annotations

from typing import ClassVar

from tests.lab.cloud.configuration import Overrides
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
        """What the image was made by, and why, stands on it."""
        directory = self.cloud.instances_path / LONG
        self.addCleanup(directory.rmdir)
        self.configure(
            {
                ('snapshot', 'path'): 'auto',
                ('libvirt', 'snapshots_directory'): directory,
            }
        )
        before = self.before(self.server)
        earliest = self.records(self.server)
        image = self.snapshot(self.server)
        self.assertEqual('mirror', image.properties['snapshot_method'])
        self.assertIn(
            'too long for a socket', image.properties['snapshot_method_reason']
        )
        self.assertEqual('true', image.properties['snapshot_quiesced'])
        self.examine(image, earliest)
        self.assert_as_before(before)
        self.assertEqual([], list(directory.iterdir()))

    # The server is deleted.

    def test_server_is_deleted_while_copied(self) -> None:
        self.delete_while(Phase.MIRROR, self.new_server())

    def test_server_is_deleted_while_the_image_is_written(self) -> None:
        self.delete_while(Phase.EXTRACT, self.young_server())

    # The user does something else.

    def test_other_actions_are_refused(self) -> None:
        self.assert_other_actions_are_refused_while(Phase.MIRROR)

    def test_image_is_deleted(self) -> None:
        before = self.before(self.server)
        with self.held(Phase.MIRROR, self.server) as image:
            self.demo.image.delete_image(image.id)
        self.assert_image_was_deleted(image, before)

    def test_guest_powers_itself_off(self) -> None:
        """Its domain is transient, and is defined again."""
        before = self.before(self.server)
        with self.held(Phase.MIRROR, self.server) as image:
            with self.domain(self.server) as domain:
                self.assertFalse(domain.isPersistent())
            self.power_off_from_inside()
            self.wait_for_failure(self.server, image)
        self.assertIn('(mirror-failed)', self.fault_of(self.server))
        self.assert_nothing_has_changed_but_the_power(before)

    # Nova's own driver fails here

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

    def test_slow_upload_keeps_no_disk_busy(self) -> None:
        """Another server's image is written meanwhile."""
        self.assert_no_disk_is_busy_while(Phase.UPLOAD)

    def test_guest_is_left_alone_while_the_disks_are_busy(self) -> None:
        """It is not copied before its image can be written, too.

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

    def test_room_runs_out_in_the_copy(self) -> None:
        """The snapshot fails, and the guest is as it was.

        Nova's driver takes a copy that broke off for one that is complete,
        and leaves the domain transient and the guest frozen.
        """
        disk = self.small_disk(1536)
        before = self.before(self.server)
        with self.held(Phase.MIRROR, self.server) as image:
            disk.fill()
        self.wait_for_failure(self.server, image)
        self.assertIn('(mirror-failed)', self.fault_of(self.server))
        disk.empty()
        self.assert_as_before(before)
        self.wait_for_records(self.server)

    def test_killed_while_copying(self) -> None:
        """All is given back at the next start.

        With Nova's driver the domain stays transient, its writes go to the
        copy too, and the image stays ``queued``.
        """
        self.kill_while(Phase.MIRROR)
