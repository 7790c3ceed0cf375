# SPDX-License-Identifier: Apache-2.0
"""What happens to a server and its image while a snapshot is taken."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from typing import Any
from typing import ClassVar

import libvirt
from openstack import exceptions as sdk_exceptions
from openstack.compute.v2.server import Server

from tests import laws
from tests.lab.bounded import wait_until
from tests.lab.disks import Layer
from tests.lab.proxy import Slow
from tests.openstack.held import PHASE_TIMEOUT
from tests.openstack.held import TRICKLE
from tests.openstack.held import HeldTest
from tests.openstack.held import Phase

#: Seconds in which a server is gone whose snapshot would take longer.
SOON = 30

COMMAND_TIMEOUT = 120

#: What a server is said to be doing.
TASK_STATES = {
    Phase.MIRROR: 'image_pending_upload',
    Phase.UPLOAD: 'image_uploading',
}


class MeanwhileTest(HeldTest):
    server: ClassVar[Server]
    others: ClassVar[list[Server]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server, *cls.others = cls.boot_several(3)

    # The server is deleted: the snapshot neither holds nor revives it.

    def test_server_is_deleted_while_copied(self) -> None:
        self._delete_while(Phase.MIRROR, self.new_server())

    def test_server_is_deleted_while_the_image_is_written(self) -> None:
        self._delete_while(Phase.EXTRACT, self._young_server())

    def test_server_is_deleted_while_the_image_is_uploaded(self) -> None:
        self._delete_while(Phase.UPLOAD, self._young_server())

    def test_server_is_deleted_while_suspended(self) -> None:
        self.configure({('snapshot', 'path'): 'cold'})
        self._delete_while(Phase.EXTRACT, self._young_server())

    def _young_server(self) -> Server:
        """One whose guest need not have booted."""
        server = self.start(self.server.image.id)
        self.addCleanup(self.delete, server)
        return server

    def _delete_while(self, phase: Phase, server: Server) -> None:
        with self.held(phase, server) as image:
            self.demo.compute.delete_server(server.id)
            wait_until(
                lambda: self.demo.compute.find_server(server.id) is None,
                'the server to be gone',
                SOON,
                0.3,
            )
            self.assert_nothing_is_left(server, image)
        self.log.wait('Instance disappeared during snapshot', SOON)
        self.assert_nothing_is_left(server, image)
        self.assert_calm()

    # The user does something else.

    def _actions(self) -> dict[str, Callable[[], Any]]:
        compute = self.demo.compute
        one = self.server.id
        flavor = compute.find_flavor('tiny', ignore_missing=False).id
        return {
            'snapshot': lambda: compute.create_server_image(one, 'second'),
            'backup': lambda: compute.backup_server(one, 'b', 'daily', 1),
            'stop': lambda: compute.stop_server(one),
            'soft reboot': lambda: compute.reboot_server(one, 'SOFT'),
            'hard reboot': lambda: compute.reboot_server(one, 'HARD'),
            'resize': lambda: compute.resize_server(one, flavor),
            'pause': lambda: compute.pause_server(one),
            'suspend': lambda: compute.suspend_server(one),
            'shelve': lambda: compute.shelve_server(one),
            'rescue': lambda: compute.rescue_server(one),
            'rebuild': lambda: compute.rebuild_server(
                one, image=self.server.image.id
            ),
        }

    def test_other_actions_are_refused(self) -> None:
        """A second snapshot too."""
        before = self.before(self.server)
        for phase in (Phase.MIRROR, Phase.UPLOAD):
            earliest = self.records(self.server)
            with self.held(phase, self.server) as image:
                self.assertEqual(
                    TASK_STATES[phase],
                    self.demo.compute.get_server(self.server.id).task_state,
                )
                for name, action in self._actions().items():
                    self._assert_conflict(name, action)
            self.examine(self.wait_for_image(image), earliest)
            self.assert_as_before(before)
        self.assert_calm()

    def _assert_conflict(self, name: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except sdk_exceptions.ConflictException:
            return
        self.fail(f'{name} was not refused')

    def test_image_is_deleted(self) -> None:
        """It is the user's to delete, and no error of the server's."""
        before = self.before(self.server)
        for phase in (Phase.MIRROR, Phase.UPLOAD):
            with self.held(phase, self.server) as image:
                self.demo.image.delete_image(image.id)
            server = self.wait_for_no_task(self.server.id)
            self.assertEqual('ACTIVE', server.status)
            self.assertIsNone(server.fault)
            self.wait_until_gone(image)
            self.assert_as_before(before)
            self.wait_for_records(self.server)
        self.assert_calm()

    def test_command_beside_nova(self) -> None:
        """Of Nova's snapshot and the command's, one is refused."""
        before = self.before(self.server)
        earliest = self.records(self.server)
        with self.held(Phase.MIRROR, self.server) as image:
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
            Phase.MIRROR, self.server, self._command
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

    def _command(self) -> subprocess.Popen[str]:
        """``nova-snapshot create``, from Nova's own environment."""
        etc = self.cloud.directory / 'etc/nova'
        process = subprocess.Popen(
            [
                self.cloud.install.programs / 'nova-snapshot',
                *('create', self.server.id, '--format', 'json'),
                *('--config-file', etc / 'nova.conf'),
                *('--config-file', etc / 'nova-compute.conf'),
                *('--output', self._output),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.addCleanup(_end, process)
        return process

    # The guest does.

    def test_guest_powers_itself_off(self) -> None:
        """There is no image, and libvirt still has the domain."""
        before = self.before(self.server)
        # Nova agrees that there is something to be started.
        self.addCleanup(self._start_again)
        with self.held(Phase.MIRROR, self.server) as image:
            with self.domain(self.server) as domain:
                self.assertFalse(domain.isPersistent())
            # Its agent may have no time left to answer.
            with contextlib.suppress(libvirt.libvirtError):
                self.ask_agent(
                    self.server, 'guest-exec', path='/bin/poweroff', arg=['-f']
                )
            self.wait_for_failure(self.server, image)
        self.assertIn('mirror-failed', self.fault_of(self.server))
        with self.hypervisor() as connection:
            self.assertEqual(
                ['state was running, and is shut off'],
                laws.differences(connection, before, self.directories),
            )

    def _start_again(self) -> None:
        self.admin.compute.reboot_server(self.server.id, 'HARD')
        self.wait_for_status(self.server, 'ACTIVE')
        self.wait_for_records(self.server)

    # Others are snapshotted.

    def test_several_servers_at_once(self) -> None:
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
        # None of them has ended before another one began.
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
