# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from typing import Any

import ddt
import libvirt
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.snapshot.capture.quiesce import Quiesce
from nova_snapshot_driver.snapshot.disk import disks_of
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.instance import QuiescePolicy
from nova_snapshot_driver.snapshot.plan.model import Obstacles
from nova_snapshot_driver.snapshot.plan.planner import make_plan
from tests.unit import tables
from tests.unit.fake_libvirt import Agent
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.host import FakeHost

FOREVER = libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK


class QuiesceCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.machine = self.host.machine

    def quiesce(
        self,
        policy: QuiescePolicy = QuiescePolicy.AUTO,
        thaw_timeout: int = 5,
    ) -> Quiesce:
        guest = self.host.guest()
        plan = make_plan(
            conf.plan_settings(conf.load([])),
            Instance(guest.name, quiesce=policy),
            guest.describe(),
            disks_of(guest.describe()),
            guest.power.state(),
            Obstacles(),
        )
        return Quiesce(guest, plan, 10, thaw_timeout)


class CheckTest(QuiesceCase):
    def test_agent_answers(self) -> None:
        quiesce = self.quiesce(QuiescePolicy.REQUIRE)
        quiesce.check()
        self.assertTrue(quiesce.possible)

    def test_bound_of_the_agent_is_lifted_again(self) -> None:
        self.quiesce().check()
        self.assertEqual(FOREVER, self.machine.agent_timeout)

    def test_silence(self) -> None:
        self.machine.agent = Agent.HANGS
        quiesce = self.quiesce()
        quiesce.check()
        self.assertFalse(quiesce.possible)
        self.assertIn("within '10' seconds", str(quiesce.reason))
        self.assertEqual(FOREVER, self.machine.agent_timeout)

    def test_silence_where_it_is_required(self) -> None:
        self.machine.agent = Agent.HANGS
        quiesce = self.quiesce(QuiescePolicy.REQUIRE)
        error = self.assertRaises(exception.QuiesceFailed, quiesce.check)
        self.assertIn("within '10' seconds", str(error))

    def test_nobody_is_asked_without_need(self) -> None:
        quiesce = self.quiesce(QuiescePolicy.NEVER)
        self.machine.agent = Agent.HANGS
        quiesce.check()
        self.assertEqual('not wanted', str(quiesce.reason))


class FrozenTest(QuiesceCase):
    def test_frozen_inside_alone(self) -> None:
        quiesce = self.quiesce()
        self.assertFalse(self.machine.frozen)
        with quiesce.frozen():
            self.assertTrue(self.machine.frozen)
        self.assertFalse(self.machine.frozen)
        self.assertTrue(quiesce.done)
        self.assertEqual('by the guest agent', str(quiesce.reason))

    def test_bound_of_the_agent_is_lifted_again(self) -> None:
        with self.quiesce().frozen():
            self.assertEqual(FOREVER, self.machine.agent_timeout)
        self.assertEqual(FOREVER, self.machine.agent_timeout)

    def test_not_wanted(self) -> None:
        quiesce = self.quiesce(QuiescePolicy.NEVER)
        with quiesce.frozen():
            self.assertFalse(self.machine.frozen)
        self.assertFalse(quiesce.done)

    def test_not_after_a_check_that_failed(self) -> None:
        self.machine.refusals['getTime'] = 1
        quiesce = self.quiesce()
        quiesce.check()
        with quiesce.frozen():
            self.assertFalse(self.machine.frozen)

    def test_thawed_after_an_error(self) -> None:
        with testtools.ExpectedException(KeyError), self.quiesce().frozen():
            raise KeyError
        self.assertFalse(self.machine.frozen)


#: The kinds of agents -> the file systems that they freeze, a word of the
#: reason for none, and whether they are frozen afterwards.
AGENTS: dict[str, tuple[dict[str, Any], int, str, bool]] = {
    'answers': ({}, 1, 'by the guest agent', False),
    'many_file_systems': ({'file_systems': 7}, 7, 'by the guest agent', False),
    'tells_no_time': (
        {'disabled': {'guest-get-time'}},
        1,
        'by the guest agent',
        False,
    ),
    'tells_nothing': (
        {'disabled': {'guest-get-time', 'guest-get-fsinfo'}},
        1,
        'by the guest agent',
        False,
    ),
    'may_not_freeze': (
        {'disabled': {'guest-fsfreeze-freeze'}},
        0,
        'guest-fsfreeze-freeze has been disabled',
        False,
    ),
    'may_neither_freeze_nor_thaw': (
        {'disabled': {'guest-fsfreeze-freeze', 'guest-fsfreeze-thaw'}},
        0,
        'guest-fsfreeze-freeze has been disabled',
        False,
    ),
    'has_nothing_to_freeze': (
        {'file_systems': 0},
        0,
        'no file system to freeze',
        False,
    ),
    'fails': ({'freeze_fails': True}, 0, 'Input/output error', False),
    'is_late': ({'freeze_is_late': True}, 0, 'respond', False),
    'hangs': ({'agent': Agent.HANGS}, 0, 'respond', False),
    'has_gone': ({'agent': Agent.ABSENT}, 0, 'not connected', False),
    'is_frozen_by_somebody_else': (
        {'frozen': True},
        0,
        'in frozen state',
        True,
    ),
    'is_old_and_frozen_by_somebody_else': (
        {'frozen': True, 'says_why': False},
        0,
        'guest-fsfreeze-freeze has been disabled',
        True,
    ),
}


@ddt.ddt
class AgentTest(QuiesceCase):
    """The word of a snapshot for every agent there may be."""

    @tables.rows(AGENTS)
    def test_auto(
        self, agent: dict[str, Any], count: int, reason: str, frozen: bool
    ) -> None:
        quiesce = self.quiesce()
        for name, value in agent.items():
            setattr(self.machine, name, value)
        quiesce.check()
        with quiesce.frozen():
            self.assertEqual(bool(count) or frozen, self.machine.frozen)
            # The seconds are those of a stopwatch, to a thousandth.
            time.sleep(0.002)
        self.assertEqual(count, quiesce.file_systems)
        self.assertEqual(count > 0, quiesce.done)
        self.assertIn(reason, str(quiesce.reason))
        self.assertIs(frozen, self.machine.frozen)
        self.assertTrue(quiesce.lasted)
        self.assertEqual(count > 0, quiesce.seconds > 0)

    @tables.rows(AGENTS)
    def test_required(
        self, agent: dict[str, Any], count: int, reason: str, frozen: bool
    ) -> None:
        quiesce = self.quiesce(QuiescePolicy.REQUIRE)
        for name, value in agent.items():
            setattr(self.machine, name, value)
        reached = []
        try:
            quiesce.check()
            with quiesce.frozen():
                reached.append('the instant of the snapshot')
        except exception.QuiesceFailed as error:
            self.assertIn(reason, str(error))
        self.assertEqual(min(count, 1), len(reached))
        self.assertIs(frozen, self.machine.frozen)

    def test_second_freeze_of_an_agent_that_tells_no_time(self) -> None:
        """The agent says that it is frozen, and is not."""
        self.machine.disabled = {'guest-get-time'}
        for _snapshot in range(2):
            quiesce = self.quiesce(QuiescePolicy.REQUIRE)
            quiesce.check()
            with quiesce.frozen():
                self.assertTrue(self.machine.frozen)
            self.assertTrue(quiesce.done)
        domain = FakeDomain(self.machine)
        error = self.assertRaises(libvirt.libvirtError, domain.getTime)
        self.assertIn('frozen state', str(error))

    def test_frozen_by_somebody_else_after_the_check(self) -> None:
        quiesce = self.quiesce()
        quiesce.check()
        self.machine.frozen = True
        with quiesce.frozen():
            self.assertFalse(quiesce.done)
        self.assertTrue(self.machine.frozen)

    def test_thaw_is_owed_where_nothing_was_frozen(self) -> None:
        """Until it is done: older agents believe that they are frozen."""
        self.machine.file_systems = 0
        self.machine.refusals['fsThaw'] = 3
        with self.quiesce().frozen():
            pass
        self.assertEqual(0, self.machine.refusals['fsThaw'])
        self.assertFalse(self.machine.frozen)


class FreezeFailsTest(QuiesceCase):
    def setUp(self) -> None:
        super().setUp()
        self.machine.freeze_fails = True

    def test_auto(self) -> None:
        quiesce = self.quiesce()
        with quiesce.frozen():
            self.assertFalse(quiesce.done)
        self.assertFalse(quiesce.done)
        self.assertIn('freeze the file systems: ', str(quiesce.reason))
        self.assertIn('Input/output error', str(quiesce.reason))

    def test_required(self) -> None:
        reached = []
        quiesce = self.quiesce(QuiescePolicy.REQUIRE)
        with (
            testtools.ExpectedException(exception.QuiesceFailed),
            quiesce.frozen(),
        ):
            reached.append('the instant of the snapshot')
        self.assertEqual([], reached)
        self.assertFalse(self.machine.frozen)


class FreezeIsLateTest(QuiesceCase):
    """The agent says nothing in time, and freezes all the same."""

    def setUp(self) -> None:
        super().setUp()
        self.machine.freeze_is_late = True

    def test_thawed_at_once(self) -> None:
        quiesce = self.quiesce()
        with quiesce.frozen():
            # A guest that may not be frozen is not kept waiting.
            self.assertFalse(self.machine.frozen)
        self.assertFalse(quiesce.done)

    def test_required(self) -> None:
        quiesce = self.quiesce(QuiescePolicy.REQUIRE)
        with (
            testtools.ExpectedException(exception.QuiesceFailed),
            quiesce.frozen(),
        ):
            pass
        self.assertFalse(self.machine.frozen)

    def test_thaw_is_owed_until_it_is_done(self) -> None:
        self.machine.refusals['fsThaw'] = 4
        quiesce = self.quiesce()
        with quiesce.frozen():
            self.assertTrue(self.machine.frozen)
        self.assertFalse(self.machine.frozen)
        self.assertFalse(quiesce.done)
        self.assertEqual(0, self.machine.refusals['fsThaw'])


class ThawTest(QuiesceCase):
    def test_refused_twice(self) -> None:
        self.machine.refusals['fsThaw'] = 2
        quiesce = self.quiesce()
        with quiesce.frozen():
            pass
        self.assertFalse(self.machine.frozen)
        self.assertTrue(quiesce.done)

    def test_refused_for_good(self) -> None:
        self.machine.refusals['fsThaw'] = 1 << 30
        with (
            testtools.ExpectedException(
                exception.UndoFailed, '.*virsh domfsthaw.*'
            ),
            self.quiesce().frozen(),
        ):
            pass
        # For the whole of its bound, and not once or twice.
        self.assertLess(self.machine.refusals['fsThaw'], (1 << 30) - 10)

    def test_agent_hangs_while_frozen(self) -> None:
        with (
            testtools.ExpectedException(exception.UndoFailed),
            self.quiesce(thaw_timeout=0).frozen(),
        ):
            self.machine.agent = Agent.HANGS

    def test_guest_has_stopped(self) -> None:
        quiesce = self.quiesce()
        with quiesce.frozen():
            self.machine.stop()
        self.assertTrue(quiesce.done)

    def test_guest_is_saved(self) -> None:
        """A saved guest can't be thawed, and nobody waits for it."""
        quiesce = self.quiesce()
        with quiesce.frozen():
            FakeDomain(self.machine).managedSave(0)
        self.assertTrue(quiesce.done)

    def test_guest_has_crashed(self) -> None:
        """A crashed guest has nothing frozen any more."""
        for state in (
            libvirt.VIR_DOMAIN_CRASHED,
            libvirt.VIR_DOMAIN_SHUTDOWN,
        ):
            self.machine.state = libvirt.VIR_DOMAIN_RUNNING
            self.machine.frozen = False
            quiesce = self.quiesce()
            with quiesce.frozen():
                self.machine.state = state
            self.assertTrue(quiesce.done)

    def test_guest_is_gone(self) -> None:
        quiesce = self.quiesce()
        with quiesce.frozen():
            self.machine.config = None
            self.machine.stop()
        self.assertTrue(quiesce.done)

    def test_guest_is_gone_before_the_freeze(self) -> None:
        quiesce = self.quiesce()
        self.machine.config = None
        self.machine.stop()
        with (
            testtools.ExpectedException(exception.DomainNotFound),
            quiesce.frozen(),
        ):
            pass

    def test_guest_whose_state_can_not_be_read(self) -> None:
        """Whether it has stopped is not known, so the thaw is still owed."""
        quiesce = self.quiesce()
        self.machine.refusals['fsThaw'] = 3
        self.machine.refusals['state'] = 3
        with quiesce.frozen():
            pass
        self.assertEqual(0, self.machine.refusals['state'])
        self.assertFalse(self.machine.frozen)
