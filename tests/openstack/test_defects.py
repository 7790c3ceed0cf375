# SPDX-License-Identifier: Apache-2.0
"""What fails with Nova's own driver, and holds with this one.

Each test says how Nova's driver fails. What can be shown without a cloud is
shown in the other suites.
"""

from __future__ import annotations

import time
from typing import ClassVar

from openstack.compute.v2.server import Server
from openstack.image.v2.image import Image

from tests.lab.bounded import wait_until
from tests.lab.cloud.configuration import Overrides
from tests.lab.proxy import Answer
from tests.lab.proxy import Cut
from tests.openstack.held import MIB
from tests.openstack.held import PHASE_TIMEOUT
from tests.openstack.held import HeldTest
from tests.openstack.held import Phase
from tests.openstack.small_disk import SmallDisk

#: Seconds
MIRROR_TIMEOUT = 15
QUIESCE_TIMEOUT = 3

#: Seconds in which a snapshot is over that waits for nothing.
SOON = 60


class DefectsTest(HeldTest):
    nova_compute: ClassVar[Overrides] = {
        ('compute', 'max_concurrent_disk_ops'): 1,
        ('snapshot', 'mirror_timeout'): MIRROR_TIMEOUT,
        ('snapshot', 'quiesce_timeout'): QUIESCE_TIMEOUT,
    }
    server: ClassVar[Server]
    other: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server, cls.other = cls.boot_several(2)

    def test_fault_names_its_cause(self) -> None:
        """And nothing else.

        Nova's driver says of every failure that ``direct_snapshot() is not
        implemented``.
        """
        before = self.before(self.server)
        self.proxy.inject(Answer(403))
        image = self.ask_for_snapshot(self.server)
        self.wait_for_failure(self.server, image)
        fault = self.fault_of(self.server)
        self.assertIn('(glance-error)', fault.splitlines()[0])
        self.assertIn('upload failed', fault)
        self.assertNotIn('NotImplementedError', fault)
        self.assertNotIn('direct_snapshot', fault)
        self.assert_as_before(before)

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
        """Another server's image is written meanwhile.

        Nova's driver holds one of ``[compute] max_concurrent_disk_ops`` until
        the image is uploaded: a slow Glance stops all builds on the host.
        """
        with self.held(Phase.UPLOAD, self.server) as first:
            uploads = len(self.proxy.uploads)
            second = self.ask_for_snapshot(self.other)
            self.wait_for_upload(uploads)
            self._wait_until_saving(first)
        for image in (first, second):
            self.examine(self.wait_for_image(image), 1)

    def test_guest_is_left_alone_while_the_disks_are_busy(self) -> None:
        """It is not copied before its image can be written, too.

        With Nova's driver the copy is there by then, and grows.
        """
        with self.held(Phase.EXTRACT, self.server) as first:
            second = self.ask_for_snapshot(self.other)
            self.log.wait(
                f'{self.other.id}] instance snapshotting', PHASE_TIMEOUT
            )
            self.wait_for_records(self.other, 2)
            self.assertEqual(
                'image_snapshot',
                self.admin.compute.get_server(self.other.id).task_state,
            )
            with self.domain(self.other) as domain:
                self.assertTrue(domain.isPersistent())
                self.assertFalse(domain.blockJobInfo('vda'))
            self.assertEqual(1, len(self.data_plane()))
        for image in (first, second):
            self.examine(self.wait_for_image(image), 1)

    # There is no room

    def test_too_little_room_is_seen_before(self) -> None:
        """Nova's driver begins, and fails with the domain transient."""
        self._small_disk(64)
        before = self.before(self.server)
        log = self.cloud.log('nova-compute')
        image = self.ask_for_snapshot(self.server)
        self.wait_for_failure(self.server, image)
        self.assertIn('(no-space)', self.fault_of(self.server))
        self.assertIn('Nothing was touched', log.text)
        self.assert_as_before(before)

    def test_room_runs_out_in_the_copy(self) -> None:
        """The snapshot fails, and the guest is as it was.

        Nova's driver takes a copy that broke off for one that is complete,
        and leaves the domain transient and the guest frozen.
        """
        disk = self._small_disk(1536)
        before = self.before(self.server)
        with self.held(Phase.MIRROR, self.server) as image:
            disk.fill()
        self.wait_for_failure(self.server, image)
        self.assertIn('(mirror-failed)', self.fault_of(self.server))
        disk.empty()
        self.assert_as_before(before)
        self.wait_for_records(self.server)

    def _small_disk(self, size: int) -> SmallDisk:
        return self.useFixture(
            SmallDisk(
                self.cloud,
                self.directory / 'small-disk',
                self.cloud.instances_path / 'snapshots',
                size,
            )
        )

    # nova-compute dies

    def test_killed_while_copying(self) -> None:
        """All is given back at the next start.

        With Nova's driver the domain stays transient, its writes go to the
        copy too, and the image stays ``queued``.
        """
        self._kill_while(Phase.MIRROR)

    def test_killed_while_uploading(self) -> None:
        self._kill_while(Phase.UPLOAD)

    def _kill_while(self, phase: Phase) -> None:
        before = self.before(self.server)
        with self.held(phase, self.server) as image:
            self.addCleanup(self.cloud.compute.start)
            self.cloud.compute.kill()
            self.cloud.compute.start()
            # Inside: it is not that the copy has come to its end.
            self.wait_for_failure(self.server, image)
            self.assert_as_before(before)
        earliest = self.wait_for_records(self.server)
        self.examine(self.snapshot(self.server), earliest)
        self.assert_as_before(before)

    # The guest agent

    def test_agent_that_hangs_is_not_waited_for(self) -> None:
        """With Nova's driver the snapshot never ends, nor does any other."""
        server = self.new_server()
        self._hang_agent(server)
        image = self.ask_for_snapshot(server)
        began = time.monotonic()
        image = self.wait_for_image(image)
        self.assertLess(time.monotonic() - began, SOON)
        self.assertEqual('false', image.properties['snapshot_quiesced'])
        self.examine(image, 1)
        self.wait_for_records(server)

    def _hang_agent(self, server: Server) -> None:
        self.wait_for_agent(server)
        self.ask_agent(
            server,
            'guest-exec',
            path='/bin/sh',
            # It has to answer this request first.
            arg=[
                '-c',
                'sleep 0.5; kill -STOP $(cat /run/qemu-ga.pid); '
                'echo witness: agent hangs >/dev/console',
            ],
        )
        console = self.admin.compute.get_server_console_output
        wait_until(
            lambda: 'agent hangs' in console(server.id)['output'],
            'the agent to hang',
            PHASE_TIMEOUT,
            0.5,
        )

    def test_nothing_is_started_while_the_guest_stands_still(self) -> None:
        """Not in the first snapshot after a restart either.

        Nova's driver starts the daemon of privsep between the freeze and the
        thaw: the guest stands still for a second instead of a tenth.
        """
        self.cloud.compute.restart()
        log = self.cloud.log('nova-compute')
        self.snapshot(self.server)
        self.assertEqual([], log.grep('Spawned new privsep daemon'))
        self.assertEqual([], log.grep('Running privsep helper'))

    # Glance fails

    def test_glance_is_killed_while_uploading(self) -> None:
        """There is no image, and the fault says so.

        The image can't be uploaded again: Glance has it in the state
        ``saving`` for ever. What had come of it stays in Glance's store, as
        it does with any client: Glance does not know of it.
        """
        before = self.before(self.server)
        glance = self.cloud.services['glance']
        with self.held(Phase.UPLOAD, self.server) as image:
            partial = self.cloud.glance_store / image.id
            self.addCleanup(partial.unlink, missing_ok=True)
            self._wait_until_saving(image)
            self.addCleanup(glance.start)
            glance.kill()
            glance.start()
        self.wait_for_failure(self.server, image)
        self.assertIn('(upload-failed)', self.fault_of(self.server))
        self.assert_as_before(before)
        self.examine(self.snapshot(self.server), 1)

    def test_connection_breaks_once(self) -> None:
        """The second attempt sends all of it, from byte 0.

        That of Nova's driver goes on where the first one broke off: the image
        is active, lacks its beginning, and nobody is told.
        """
        self.configure({('libvirt', 'snapshot_image_format'): 'raw'})
        earlier = len(self.proxy.uploads)
        self.proxy.inject(Cut(64 * MIB), times=1)
        image = self.snapshot(self.server)
        self.assertEqual(
            [None, 204],
            [upload.status for upload in self.proxy.uploads[earlier:]],
        )
        self.assertEqual('raw', image.disk_format)
        self.assertEqual(image.size, self.proxy.uploads[-1].size)
        self.examine(image, 1)

    def _wait_until_saving(self, image: Image) -> None:
        wait_until(
            lambda: self.demo.image.get_image(image.id).status == 'saving',
            'Glance to take the image',
            PHASE_TIMEOUT,
            0.2,
        )
