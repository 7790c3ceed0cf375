# SPDX-License-Identifier: Apache-2.0
"""Defects of Nova's own driver that this one does not have.

Each test says how Nova's driver fails. Defects that show without a cloud are
in the other suites.
"""

from __future__ import annotations

import time
from typing import ClassVar

from openstack.compute.v2.server import Server

from lab.bounded import wait_until
from lab.cloud.configuration import Overrides
from lab.proxy import Answer
from tests.openstack import base
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

    @base.depends_on_threads
    def test_slow_stream_keeps_no_disk_busy(self) -> None:
        """The disk of another server is read meanwhile.

        Nova's driver holds one of ``[compute] max_concurrent_disk_ops`` until
        the image is uploaded: a slow Glance stops all builds on the host.
        """
        self.assert_no_disk_is_busy_while(Phase.STREAM)

    # Lack of space

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

    @base.depends_on_threads
    def test_killed_while_streaming(self) -> None:
        """All is given back at the next start.

        With Nova's driver the image stays ``queued``.
        """
        self.kill_while(Phase.STREAM)

    # The guest agent

    @base.depends_on_threads
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
            # Delay the stop: the agent has to answer this request first.
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
