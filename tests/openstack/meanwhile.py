# SPDX-License-Identifier: Apache-2.0
"""Events while a snapshot is taken, in whatever phase."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import ClassVar

import libvirt
from openstack import exceptions as sdk_exceptions
from openstack.compute.v2.server import Server
from openstack.image.v2.image import Image

from lab.bounded import wait_until
from tests import laws
from tests.openstack.held import PHASE_TIMEOUT
from tests.openstack.held import HeldTest
from tests.openstack.held import Phase
from tests.openstack.small_disk import SmallDisk

#: Seconds in which a server is gone whose snapshot would take longer.
SOON = 60

#: The task states of the phases.
TASK_STATES = {
    Phase.STREAM: 'image_uploading',
    Phase.MIRROR: 'image_pending_upload',
}


class MeanwhileTest(HeldTest):
    """Tests in which something happens to a snapshot that is held.

    :cvar servers: how many there are from the beginning. The guests of all
        but the first take no time of the processors where they are not needed
    """

    servers: ClassVar[int] = 1
    server: ClassVar[Server]
    others: ClassVar[list[Server]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server, *cls.others = cls.boot_several(cls.servers)
        for other in cls.others:
            cls.demo.compute.pause_server(other.id)

    @contextlib.contextmanager
    def others_running(self) -> Iterator[None]:
        """The guests of the other servers run as well."""
        for other in self.others:
            self.wait_for_status(other, 'PAUSED')
            self.demo.compute.unpause_server(other.id)
        for other in self.others:
            self.wait_for_status(other, 'ACTIVE')
        try:
            yield
        finally:
            for other in self.others:
                self.wait_for_no_task(other.id)
                self.demo.compute.pause_server(other.id)

    def young_server(self) -> Server:
        """A server whose guest need not have booted."""
        server = self.start(self.server.image.id)
        self.addCleanup(self.delete, server)
        return server

    def delete_while(self, phase: Phase, server: Server) -> None:
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

    def assert_other_actions_are_refused_while(self, phase: Phase) -> None:
        """A second snapshot too."""
        before = self.before(self.server)
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

    def assert_image_was_deleted(
        self, image: Image, before: laws.Before
    ) -> None:
        """The image is the user's to delete, and no error of the server's."""
        server = self.wait_for_no_task(self.server.id)
        self.assertEqual('ACTIVE', server.status)
        self.assertIsNone(server.fault)
        self.wait_until_gone(image)
        self.assert_as_before(before)
        self.wait_for_records(self.server)
        self.assert_calm()

    def power_off_from_inside(self) -> None:
        """Have the guest do it; it is started again after the test."""
        # Nova agrees that there is something to be started.
        self.addCleanup(self._start_again)
        # The agent may have no time left to answer.
        with contextlib.suppress(libvirt.libvirtError):
            self.ask_agent(
                self.server, 'guest-exec', path='/bin/poweroff', arg=['-f']
            )
        wait_until(
            self._is_powered_off,
            'the guest to power itself off',
            PHASE_TIMEOUT,
        )

    def _is_powered_off(self) -> bool:
        """By the guest's own word: libvirt may notice it a minute later.

        While a backup job runs, it waits 30 s for each of the channels that
        the guest closes before it looks at what comes after it. The console
        is gone with the guest. Where its domain goes while it is
        asked, Nova calls that an error of its own.
        """
        console = self.admin.compute.get_server_console_output
        try:
            return 'Power down' in console(self.server.id)['output']
        except sdk_exceptions.HttpException:
            return True

    def assert_nothing_has_changed_but_the_power(
        self, before: laws.Before
    ) -> None:
        with self.hypervisor() as connection:
            self.assertEqual(
                ['state was running, and is shut off'],
                laws.differences(connection, before, self.directories),
            )

    def _start_again(self) -> None:
        self.wait_for_no_task(self.server.id)
        self.admin.compute.reboot_server(self.server.id, 'HARD')
        self.wait_for_status(self.server, 'ACTIVE')
        self.wait_for_records(self.server)

    def assert_no_disk_is_busy_while(self, phase: Phase) -> None:
        """The snapshot of another server begins, and is uploaded."""
        self.enterContext(self.others_running())
        with self.held(phase, self.server) as first:
            uploads = len(self.proxy.uploads)
            second = self.ask_for_snapshot(self.others[0])
            self.wait_for_upload(uploads)
            self.wait_until_saving(first)
        for image in (first, second):
            self.examine(self.wait_for_image(image), 1)

    def small_disk(self, size: int) -> SmallDisk:
        """A disk for the temporary files, until the end of the test.

        :param size: MiB
        """
        return self.useFixture(
            SmallDisk(
                self.cloud,
                self.directory / 'small-disk',
                self.cloud.instances_path / 'snapshots',
                size,
            )
        )

    def kill_while(self, phase: Phase) -> None:
        """All is given back at the next start of nova-compute."""
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
