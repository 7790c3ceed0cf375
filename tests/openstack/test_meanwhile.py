# SPDX-License-Identifier: Apache-2.0
"""Events of a server and its image while a snapshot is taken."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from lab.bounded import wait_until
from lab.disks import Layer
from lab.proxy import Slow
from tests.openstack import base
from tests.openstack.held import PHASE_TIMEOUT
from tests.openstack.held import TRICKLE
from tests.openstack.held import Phase
from tests.openstack.meanwhile import SOON
from tests.openstack.meanwhile import MeanwhileTest

COMMAND_TIMEOUT = 120


class DefaultTest(MeanwhileTest):
    """Of snapshots with the options that nova-compute has by default."""

    servers = 3

    # The server is deleted: the snapshot neither holds nor revives it.

    @base.depends_on_threads
    def test_server_is_deleted_while_streamed(self) -> None:
        self.delete_while(Phase.STREAM, self.young_server())

    def test_server_is_deleted_while_suspended(self) -> None:
        self.configure({('snapshot', 'method'): 'cold'})
        self.delete_while(Phase.EXTRACT, self.young_server())

    # The user does something else.

    def test_other_actions_are_refused(self) -> None:
        self.assert_other_actions_are_refused_while(Phase.STREAM)

    @base.depends_on_threads
    def test_image_is_deleted(self) -> None:
        """The remaining data is not sent."""
        before = self.before(self.server)
        with self.held(Phase.STREAM, self.server) as image:
            self.demo.image.delete_image(image.id)
            wait_until(
                lambda: not self.is_backed_up(self.server),
                'the backup job to end',
                SOON,
            )
        self.assert_image_was_deleted(image, before)

    def test_command_beside_nova(self) -> None:
        """Of Nova's snapshot and the command's, one is refused."""
        before = self.before(self.server)
        earliest = self.records(self.server)
        with self.held(Phase.STREAM, self.server) as image:
            refused = self._command()
            output, _ = refused.communicate(timeout=COMMAND_TIMEOUT)
            self.assertEqual(1, refused.returncode)
            error = json.loads(output)['error']
            self.assertEqual('domain-busy', error['code'])
            self.assertFalse(self._output.exists())
        self.examine(self.wait_for_image(image), earliest)
        self.assert_as_before(before)

    def test_nova_beside_the_command(self) -> None:
        before = self.before(self.server)
        earliest = self.records(self.server)
        with self.started_and_held(
            Phase.MIRROR,
            self.server,
            lambda: self._command('--method', 'mirror'),
        ) as command:
            image = self.ask_for_snapshot(self.server)
            self.wait_for_failure(self.server, image)
            self.assertIn('domain-busy', self.fault_of(self.server))
        output, _ = command.communicate(timeout=COMMAND_TIMEOUT)
        self.assertEqual(0, command.returncode, output)
        self.assert_as_before(before)
        self.examine_file(Layer(self._output, 'qcow2'), earliest)

    @property
    def _output(self) -> Any:
        return self.directory / 'output'

    def _command(self, *options: str) -> subprocess.Popen[str]:
        """``nova-snapshot create``, from Nova's own environment."""
        process = subprocess.Popen(
            self.command(
                *('create', self.server.id, '--output', self._output), *options
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.addCleanup(_end, process)
        return process

    # The guest does.

    @base.depends_on_threads
    def test_guest_powers_itself_off(self) -> None:
        """A disk that was read half does not become an image.

        Either the job has ended before its time, or, where libvirt has not
        noticed yet, the export alone.
        """
        before = self.before(self.server)
        with self.held(Phase.STREAM, self.server) as image:
            self.power_off_from_inside()
        self.wait_for_failure(self.server, image)
        self.assertRegex(
            self.fault_of(self.server),
            r'\((backup-failed|source-unreadable)\)',
        )
        # Nova has heard of it too.
        self.wait_for_status(self.server, 'SHUTOFF')
        self.assert_nothing_has_changed_but_the_power(before)

    # Several servers are snapshotted.

    @base.depends_on_threads
    def test_several_servers_at_once(self) -> None:
        self.enterContext(self.others_running())
        servers = [self.server, *self.others]
        before = [self.before(server) for server in servers]
        earliest = [self.records(server) for server in servers]
        uploads = len(self.proxy.uploads)
        self.proxy.inject(Slow(TRICKLE))
        images = [self.ask_for_snapshot(server) for server in servers]
        wait_until(
            lambda: len(self.proxy.uploads) == uploads + len(servers),
            'all of them to be uploaded',
            PHASE_TIMEOUT,
        )
        # All snapshots had begun before the first one ended.
        self.assertEqual(
            {None}, {upload.status for upload in self.proxy.uploads[uploads:]}
        )
        self.proxy.heal()
        for image, record in zip(images, earliest, strict=True):
            self.examine(self.wait_for_image(image), record)
        for one in before:
            self.assert_as_before(one)
        self.assert_calm()


def _end(process: subprocess.Popen[str]) -> None:
    # In order, so that it gives the guest back.
    process.terminate()
    process.communicate(timeout=COMMAND_TIMEOUT)
