# SPDX-License-Identifier: Apache-2.0
"""What fails with Nova's own driver, and holds with this one.

Each test says how Nova's driver fails. What can be shown without a cloud is
shown in the other suites.
"""

from __future__ import annotations

import time
from typing import ClassVar

from openstack.compute.v2.server import Server

from tests.lab.bounded import wait_until
from tests.lab.cloud.configuration import Overrides
from tests.lab.proxy import Answer
from tests.lab.proxy import Cut
from tests.openstack.held import MIB
from tests.openstack.held import PHASE_TIMEOUT
from tests.openstack.held import Phase
from tests.openstack.meanwhile import MeanwhileTest

#: Seconds
QUIESCE_TIMEOUT = 3

#: Seconds in which a snapshot is over that waits for nothing.
SOON = 60


class DefectsTest(MeanwhileTest):
    nova_compute: ClassVar[Overrides] = {
        ('compute', 'max_concurrent_disk_ops'): 1,
        ('snapshot', 'quiesce_timeout'): QUIESCE_TIMEOUT,
    }
    servers = 2

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

    def test_slow_stream_keeps_no_disk_busy(self) -> None:
        """Another server's disk is read meanwhile.

        Nova's driver holds one of ``[compute] max_concurrent_disk_ops`` until
        the image is uploaded: a slow Glance stops all builds on the host.
        """
        self.assert_no_disk_is_busy_while(Phase.STREAM)

    # There is no room

    def test_too_little_room_is_seen_before(self) -> None:
        """Nova's driver begins, and fails with the domain transient."""
        self.small_disk(64)
        before = self.before(self.server)
        log = self.cloud.log('nova-compute')
        image = self.ask_for_snapshot(self.server)
        self.wait_for_failure(self.server, image)
        self.assertIn('(no-space)', self.fault_of(self.server))
        self.assertIn('Nothing was touched', log.text)
        self.assert_as_before(before)

    def test_room_runs_out_in_the_stream(self) -> None:
        """The snapshot fails before a write of the guest does."""
        disk = self.small_disk(1536)
        before = self.before(self.server)
        with self.held(Phase.STREAM, self.server) as image:
            disk.fill()
            wait_until(
                lambda: not self.is_backed_up(self.server),
                'the backup job to end',
                PHASE_TIMEOUT,
            )
        self.wait_for_failure(self.server, image)
        self.assertIn('(scratch-full)', self.fault_of(self.server))
        disk.empty()
        self.assert_as_before(before)
        self.wait_for_records(self.server)

    # nova-compute dies

    def test_killed_while_streaming(self) -> None:
        """All is given back at the next start.

        With Nova's driver the image stays ``queued``.
        """
        self.kill_while(Phase.STREAM)

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

    def test_glance_is_killed_while_streaming(self) -> None:
        """There is no image, and the fault says so.

        The image can't be uploaded again: Glance has it in the state
        ``saving`` for ever. What had come of it stays in Glance's store, as
        it does with any client: Glance does not know of it.
        """
        before = self.before(self.server)
        glance = self.cloud.services['glance']
        with self.held(Phase.STREAM, self.server) as image:
            partial = self.cloud.glance_store / image.id
            self.addCleanup(partial.unlink, missing_ok=True)
            self.wait_until_saving(image)
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
