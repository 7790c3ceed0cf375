# SPDX-License-Identifier: Apache-2.0
"""Every step of a snapshot of volumes goes wrong once, as ``test_every_fault``
has it for those of a disk, and it dies before every step.

There is no exception to a law: the guest is as it was, and there are snapshots
in Cinder of all volumes or of none.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import ddt
import libvirt

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from tests import exhaustive
from tests import faults
from tests.faults import Kind
from tests.unit import fake_cinder
from tests.unit import fake_glance
from tests.unit import mortal
from tests.unit import tables
from tests.unit.fake_libvirt import Agent
from tests.unit.host import FakeHost
from tests.unit.judged import JudgedCase
from tests.unit.judged import every_fault
from tests.unit.volumes_host import VolumesHost


@dataclasses.dataclass(frozen=True)
class Way:
    """A guest, and how its volumes are snapshotted."""

    agent: Agent = Agent.ANSWERS
    state: int = libvirt.VIR_DOMAIN_RUNNING
    pause: str = 'auto'
    quiesce: str = 'auto'

    def host(self) -> VolumesHost:
        return VolumesHost(2, self.agent, self.state)

    def prepare(self, host: FakeHost) -> None:
        host.set('snapshot', 'pause', self.pause)
        host.set('snapshot', 'quiesce', self.quiesce)
        host.bound_guest_waits(1)


#: Each step of the others is one of these too.
WAYS = {
    'paused': Way(Agent.ABSENT),
    'both': Way(pause='always'),
}

#: The guest is frozen and paused.
BOTH = {'both': WAYS['both']}

MORE_WAYS = {
    'required': Way(quiesce='require'),
    'mute_agent': Way(Agent.HANGS),
    'shut_off': Way(state=libvirt.VIR_DOMAIN_SHUTOFF),
}

#: All of a kind come about in every run.
REQUESTS = ('volume_1', 'volume_2', 'limits_1', 'create_1', 'create_2')


@ddt.ddt
class LibvirtTest(JudgedCase):
    @tables.rows(
        exhaustive.drawn(
            every_fault(WAYS | MORE_WAYS, (Kind.LOST,))
            | every_fault(WAYS, (Kind.REFUSED,))
        )
    )
    def test_fault(self, way: Way, fault: faults.Fault) -> None:
        host = self.on(way)
        before = host.before()
        with faults.Interposer(host.connection, fault) as interposer:
            self.judge(
                host, before, lambda: host.snapshot(interposer.connection)
            )

    @tables.rows(every_fault(BOTH, (Kind.MEANWHILE,)))
    def test_guest_dies(self, way: Way, fault: faults.Fault) -> None:
        host = self.on(way)
        before = dataclasses.replace(host.before(), state='shut off')
        with faults.Interposer(
            host.connection, fault, host.machine.stop
        ) as interposer:
            self.judge(
                host, before, lambda: host.snapshot(interposer.connection)
            )

    @tables.rows(every_fault(BOTH, (Kind.MEANWHILE,)))
    def test_cancelled(self, way: Way, fault: faults.Fault) -> None:
        host = self.on(way)
        before = host.before()
        cancellation = Cancellation()
        with faults.Interposer(
            host.connection, fault, lambda: cancellation.request('SIGTERM')
        ) as interposer:
            error = self.judge(
                host,
                before,
                lambda: host.snapshot(interposer.connection, cancellation),
            )
        self.assertIsInstance(error, exception.Cancelled)


@ddt.ddt
class CinderTest(JudgedCase):
    @tables.rows(
        {
            f'{request}_{name}_{when}': (request, trouble, when)
            for request in REQUESTS
            for name, trouble in {
                'unavailable': fake_cinder.unavailable,
                'over_limit': fake_cinder.over_limit,
                'breaks': fake_cinder.broken,
                'silent': fake_cinder.silent,
            }.items()
            for when in ('troubles', 'late_troubles')
        }
    )
    def test_fails(
        self, request: str, trouble: fake_cinder.Trouble, when: str
    ) -> None:
        host = self.on(WAYS['paused'])
        before = host.before()
        getattr(host.cinder, when)[request] = trouble
        error = self.judge(host, before, host.snapshot)
        self.assertIsInstance(error, exception.CinderError)

    @tables.rows(
        {
            f'{request}_{when}': (request, when)
            for request in ('list_1', 'list_2', 'delete_1')
            for when in ('troubles', 'late_troubles')
        }
    )
    def test_undo_fails_once(self, request: str, when: str) -> None:
        host = self.on(WAYS['paused'])
        before = host.before()
        host.cinder.troubles['create_2'] = fake_cinder.internal_error
        getattr(host.cinder, when)[request] = fake_cinder.broken
        error = self.judge(host, before, host.snapshot)
        self.assertIsInstance(error, exception.CinderUnavailable)
        self.assertIn(request, host.cinder.requests)


def _every_request() -> dict[str, tuple[int]]:
    with VolumesHost(2) as host:
        host.snapshot()
        return {
            f'{request.method}_{number}': (number,)
            for number, request in enumerate(host.glance.requests, 1)
        }


@ddt.ddt
class GlanceTest(JudgedCase):
    @tables.rows(_every_request())
    def test_unavailable(self, number: int) -> None:
        host = self.on(Way())
        before = host.before()
        host.glance.troubles[number] = fake_glance.unavailable
        self.judge(host, before, host.snapshot)

    @tables.rows(_every_request())
    def test_connection_breaks(self, number: int) -> None:
        host = self.on(Way())
        before = host.before()
        host.glance.late_troubles[number] = fake_glance.broken
        self.judge(host, before, host.snapshot)


class Refused(Exception):
    """Nova does not want the snapshot any more: the instance is deleted."""


@ddt.ddt
class TaskStateTest(JudgedCase):
    @tables.rows({'pending': (1,), 'uploading': (2,)})
    def test_refused(self, call: int) -> None:
        host = self.on(Way())
        before = host.before()

        def update_task_state(**states: Any) -> None:
            host.update_task_state(**states)
            if len(host.task_states) == call:
                raise Refused

        self.assertRaises(
            Refused, host.snapshot, update_task_state=update_task_state
        )
        self.assertEqual([], host.differences(before))
        self.assertNotIn(host.image, host.glance.images)


class Process(mortal.Process):
    """A process that takes a snapshot of volumes."""

    def _setUp(self) -> None:
        super()._setUp()
        self.host.cinder.before = self._ask

    def _ask(self, request: str) -> None:
        # How often it is polled is a matter of luck.
        if self.is_dead or request in REQUESTS:
            self.begin(request.replace('_', ''))

    def is_over(self) -> None:
        self.host.cinder.before = lambda _request: None


def _every_death() -> dict[str, tuple[Way, str]]:
    table = {}
    for name, way in BOTH.items():
        with way.host() as host, Process(host) as process:
            way.prepare(host)
            process.snapshot()
            process.is_over()
        for step in process.steps:
            table[f'{name}_{step}'] = (way, step)
    return table


@ddt.ddt
class DeathTest(JudgedCase):
    @tables.rows(_every_death())
    def test_healed(self, way: Way, step: str) -> None:
        host = self.on(way)
        before = host.before()
        with Process(host, step) as process:
            process.snapshot()
        process.is_over()
        self.assertIn(step, process.steps)
        image = host.glance.images.get(host.image, {'status': None})
        is_begun = process.knew_image and image['status'] == 'queued'
        host.healer().heal(host.context)
        self.assertEqual([], host.differences(before))
        # A complete image stays. An image of a snapshot that never began is
        # unknown to the driver.
        after = host.glance.images.get(host.image, {'status': None})
        self.assertEqual(
            None if is_begun else image['status'], after['status']
        )
