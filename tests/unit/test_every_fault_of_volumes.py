# SPDX-License-Identifier: Apache-2.0
"""Every step of a snapshot of volumes goes wrong once, as ``test_every_fault``
has it for those of a disk, and it dies before every step.

There is no exception to a law: the guest is as it was, and there are snapshots
in Cinder of all volumes or of none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable
from typing import Any

import ddt
import fixtures
import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.journal import Journal
from tests import faults
from tests import laws
from tests.faults import Kind
from tests.unit import fake_cinder
from tests.unit import fake_glance
from tests.unit import tables
from tests.unit.fake_libvirt import Agent
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

    def prepare(self, host: VolumesHost) -> None:
        host.set('snapshot', 'pause', self.pause)
        host.set('snapshot', 'quiesce', self.quiesce)
        host.set('snapshot', 'guest_timeout', 1)


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


def _steps(way: Way) -> list[faults.Step]:
    with way.host() as host:
        way.prepare(host)
        return faults.record(host.connection, host.snapshot)


def _every_fault(
    ways: dict[str, Way], kinds: tuple[Kind, ...]
) -> dict[str, tuple[Way, faults.Fault]]:
    return {
        f'{name}_{fault}': (way, fault)
        for name, way in ways.items()
        for fault in faults.every_fault(_steps(way), kinds)
    }


class Case(testtools.TestCase):
    def on(self, way: Way) -> VolumesHost:
        host: VolumesHost = self.useFixture(way.host())
        way.prepare(host)
        return host

    def judge(
        self,
        host: VolumesHost,
        before: laws.Before,
        run: Callable[[], object],
    ) -> exception.SnapshotError | None:
        """Run a snapshot, see that the laws hold; returns what it raised."""
        error = None
        try:
            run()
        except exception.SnapshotError as raised:
            error = raised
        self.assertEqual([], host.differences(before), str(error))
        if error is None:
            self.assertEqual(
                'active', host.glance.images[host.image]['status']
            )
        elif isinstance(error, exception.NotSupported):
            self.assertEqual(
                'queued', host.glance.images[host.image]['status']
            )
        else:
            self.assertNotIn(host.image, host.glance.images)
            self.assertNotIsInstance(error, exception.NotGivenBack)
        return error


@ddt.ddt
class LibvirtTest(Case):
    @tables.rows(
        _every_fault(WAYS | MORE_WAYS, (Kind.LOST,))
        | _every_fault(WAYS, (Kind.REFUSED,))
    )
    def test_fault(self, way: Way, fault: faults.Fault) -> None:
        host = self.on(way)
        before = host.before()
        with faults.Interposer(host.connection, fault) as interposer:
            self.judge(
                host, before, lambda: host.snapshot(interposer.connection)
            )

    @tables.rows(_every_fault(BOTH, (Kind.MEANWHILE,)))
    def test_guest_dies(self, way: Way, fault: faults.Fault) -> None:
        host = self.on(way)
        before = dataclasses.replace(host.before(), state='shut off')
        with faults.Interposer(
            host.connection, fault, host.machine.stop
        ) as interposer:
            self.judge(
                host, before, lambda: host.snapshot(interposer.connection)
            )

    @tables.rows(_every_fault(BOTH, (Kind.MEANWHILE,)))
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
class CinderTest(Case):
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
class GlanceTest(Case):
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
class TaskStateTest(Case):
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


class Killed(BaseException):
    """The process is gone, and no line of it is run any more."""


class Process(fixtures.Fixture):
    """A process that takes a snapshot, and dies before a step.

    :ivar steps: all of them so far
    """

    def __init__(self, host: VolumesHost, step: str | None = None) -> None:
        super().__init__()
        self._host = host
        self._step = step
        self._is_dead = False
        self._calls: dict[str, int] = {}
        self.steps: list[str] = []
        self.knew_image = False

    def _setUp(self) -> None:
        for where, name in (
            (Journal, 'remember'),
            (Journal, 'forget'),
            (os, 'unlink'),
            (self._host.glance, 'answer'),
            (self._host, 'update_task_state'),
        ):
            self.useFixture(
                fixtures.MockPatchObject(
                    where, name, self._seen(getattr(where, name), name)
                )
            )
        self._host.cinder.before = self._ask
        self.useFixture(fixtures.MockPatchObject(threading, 'excepthook'))

    def _seen(self, do: Callable[..., Any], name: str) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.begin(name)
            result = do(*args, **kwargs)
            self.knew_image |= name == 'remember'
            return result

        return step

    def _ask(self, request: str) -> None:
        # How often it is polled is a matter of luck.
        if self._is_dead or request in REQUESTS:
            self.begin(request.replace('_', ''))

    def begin(self, name: str) -> None:
        if self._is_dead:
            raise Killed
        self._calls[name] = self._calls.get(name, 0) + 1
        step = f'{name}_{self._calls[name]}'
        self.steps.append(step)
        if step == self._step:
            self._is_dead = True
            raise Killed

    def snapshot(self) -> None:
        with contextlib.suppress(Killed):
            self._host.snapshot(_Connection(self._host, self.begin).connection)

    def is_over(self) -> None:
        self._host.cinder.before = lambda _request: None


class _Connection(faults.Interposer):
    def __init__(
        self, host: VolumesHost, begin: Callable[[str], object]
    ) -> None:
        super().__init__(host.connection)
        self._begin = begin

    def call(self, method: Callable[..., Any], name: str, *args: Any) -> Any:
        self._begin(name)
        return super().call(method, name, *args)


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
class DeathTest(Case):
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
        host.driver().heal(host.context)
        self.assertEqual([], host.differences(before))
        # One that is complete stays. Of one that was never begun, nobody
        # knows.
        after = host.glance.images.get(host.image, {'status': None})
        self.assertEqual(
            None if is_begun else image['status'], after['status']
        )
