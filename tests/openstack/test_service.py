# SPDX-License-Identifier: Apache-2.0
"""nova-compute with the driver in it: it goes on, and says what it does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import ClassVar

from openstack.compute.v2.server import Server

from lab.bounded import run
from lab.bounded import wait_until
from lab.cloud.configuration import Overrides
from lab.cloud.options import Concurrency
from tests.openstack import base
from tests.openstack.base import CloudTest
from tests.openstack.base import options
from tests.openstack.held import COPYING
from tests.openstack.held import PHASE_TIMEOUT
from tests.openstack.held import HeldTest
from tests.openstack.held import Phase

#: Seconds in which nova-compute answers, on a machine that emulates guests.
ANSWER_TIMEOUT = 5

#: Two reports of its state, ten seconds apart, and some.
HEARTBEAT_TIMEOUT = 45

COMMAND_TIMEOUT = 120

#: Seconds in which nova-compute comes from a line of its log to libvirt.
LIBVIRT_PAUSE = 2

#: Seconds for which nova-compute goes on when it is stopped.
STOP_TIMEOUT = 90


class ServiceTest(HeldTest):
    """Snapshots that wait, for which nothing else has to wait."""

    nova_compute: ClassVar[Overrides] = {
        ('DEFAULT', 'periodic_fuzzy_delay'): 0,
        ('DEFAULT', 'sync_power_state_interval'): 5,
        ('DEFAULT', 'report_interval'): 2,
        ('DEFAULT', 'max_concurrent_snapshots'): 1,
        # On native threads builds and snapshots share a pool of the larger of
        # the two sizes.
        ('DEFAULT', 'max_concurrent_builds'): 1,
        # Of which Nova keeps 20 s for itself.
        ('DEFAULT', 'manager_shutdown_timeout'): STOP_TIMEOUT,
        ('DEFAULT', 'graceful_shutdown_timeout'): STOP_TIMEOUT,
    }
    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.boot()
        cls.addClassCleanup(cls.delete, cls.server)

    @base.depends_on_threads
    def test_calls_are_answered_and_the_state_is_reported(self) -> None:
        self._assert_nova_compute_goes_on_while(Phase.STREAM)
        self.configure(COPYING)
        self._assert_nova_compute_goes_on_while(Phase.MIRROR)

    def _assert_nova_compute_goes_on_while(self, phase: Phase) -> None:
        with self.held(phase, self.server) as image:
            reported = self._reported()
            log = self.cloud.log('nova-compute')
            wait_until(
                lambda: (
                    self._is_answered_in_time() and self._reported() > reported
                ),
                f'nova-compute to report its state ({phase})',
                HEARTBEAT_TIMEOUT,
                1,
            )
            log.wait('periodic task.*_sync_power_states', HEARTBEAT_TIMEOUT)
        self.wait_for_image(image)

    def _reported(self) -> str:
        (service,) = self.admin.compute.services(binary='nova-compute')
        self.assertEqual('up', service.state)
        updated_at: str = service.updated_at
        return updated_at

    def _is_answered_in_time(self) -> bool:
        """A call that only nova-compute can answer."""
        began = time.monotonic()
        self.records(self.server)
        self.assertLess(time.monotonic() - began, ANSWER_TIMEOUT)
        return True

    @base.depends_on_threads
    def test_as_many_snapshots_as_nova_allows(self) -> None:
        """The next snapshot waits, and its server is left alone."""
        second = self.start(self.server.image.id)
        self.addCleanup(self.delete, second)
        with self.held(Phase.STREAM, self.server) as image:
            waiting = self.ask_for_snapshot(second)
            # For a while.
            self.wait_for_records(self.server, 2)
            self.assertEqual(
                'image_snapshot',
                self.admin.compute.get_server(second.id).task_state,
            )
        self.wait_for_image(image)
        self.wait_for_image(waiting)

    @base.depends_on_threads
    def test_snapshot_is_waited_for_when_nova_compute_stops(self) -> None:
        """The process that uploads is asked to end too, as by systemd."""
        before = self.before(self.server)
        earliest = self.records(self.server)
        compute = self.cloud.compute
        with self.held(Phase.STREAM, self.server) as image:
            self.addCleanup(compute.start)
            for process in (compute.pid, *self.data_plane()):
                os.kill(process, signal.SIGTERM)
            self.log.wait(
                'shutdown initiated with 1 in-progress', STOP_TIMEOUT
            )
        self.log.wait('completed tasks: 1, failed tasks: 0', STOP_TIMEOUT)
        self.assertEqual('active', self.demo.image.get_image(image.id).status)
        # On native threads it waits for its own pools then, for as long as it
        # is let.
        compute.kill()
        compute.start()
        self.examine(self.wait_for_image(image), earliest)
        self.assert_as_before(before)

    @base.depends_on_threads
    def test_libvirtd_dies_while_it_is_asked(self) -> None:
        """A nova-compute with Nova's own driver would never ask it again."""
        before = self.before(self.server)
        libvirtd = self.cloud.services['libvirtd']
        self.addCleanup(libvirtd.start)
        os.kill(libvirtd.pid, signal.SIGSTOP)
        log = self.cloud.log('nova-compute')
        image = self.ask_for_snapshot(self.server)
        log.wait('Checking state', PHASE_TIMEOUT)
        time.sleep(LIBVIRT_PAUSE)
        libvirtd.kill()
        libvirtd.start()
        self.wait_for_no_task(self.server.id)
        self.wait_until_gone(image)
        self.snapshot(self.server)
        self.assert_as_before(before)

    @base.depends_on_threads
    def test_concurrency_is_the_one_asked_for(self) -> None:
        """Green threads wait in one place, native ones each for itself."""
        waits: list[str] = []
        for descriptor in Path(f'/proc/{self.cloud.compute.pid}/fd').iterdir():
            # The pipe may be closed by now.
            with contextlib.suppress(OSError):
                waits.append(os.readlink(descriptor))
        self.assertEqual(
            options().concurrency is Concurrency.EVENTLET,
            'anon_inode:[eventpoll]' in waits,
        )

    def test_one_line_says_what_is_planned_and_one_what_came_of_it(
        self,
    ) -> None:
        self.snapshot(self.server)
        for pattern in (
            r'Snapshot of domain [\w-]+: backup \(the guest is running\)',
            r'Snapshot of domain [\w-]+ is taken: vda \(qcow2, \d+ bytes\), '
            r'backup, streamed, quiesced .*SHA-512 [0-9a-f]{128}',
        ):
            line = self.log.wait(pattern, PHASE_TIMEOUT)
            self.assertIn(f'[instance: {self.server.id}]', line)
            self.assertRegex(
                line, r' INFO nova_snapshot_driver.* req-[0-9a-f]'
            )


class CheckTest(CloudTest):
    def test_all_is_well(self) -> None:
        """The command says of this deployment that Nova finds the driver."""
        findings = {finding['subject']: finding for finding in self._check()}
        for subject in ('compute_driver', 'Nova', 'Driver', 'Glance'):
            self.assertEqual('SUCCESS', findings[subject]['verdict'], subject)
        self.assertEqual(
            [], [f for f in findings.values() if f['verdict'] == 'FAILURE']
        )

    def _check(self) -> list[dict[str, str]]:
        output = run(
            self.command('check'), timeout=COMMAND_TIMEOUT, accept=(0, 1)
        )
        findings: list[dict[str, str]] = json.loads(output)
        return findings


class WayBackTest(CloudTest):
    def test_to_upstreams_driver_and_to_this_one_again(self) -> None:
        """A line of nova.conf and a restart, whatever servers there are."""
        server = self.new_server()
        before = self.before(server)
        self.addCleanup(self.cloud.ensure, options())
        self.cloud.ensure(options(driver='libvirt.LibvirtDriver'))
        earliest = self.wait_for_records(server)
        image = self.snapshot(server)
        self.assertNotIn('snapshot_method', image.properties)
        self.examine(image, earliest)
        self.cloud.ensure(options())
        earliest = self.wait_for_records(server)
        image = self.snapshot(server)
        self.assertEqual('backup', image.properties['snapshot_method'])
        self.examine(image, earliest)
        self.assert_as_before(before)
