# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import libvirt
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.instance import QuiescePolicy
from nova_snapshot_driver.plan import Obstacles
from nova_snapshot_driver.plan import make_plan
from nova_snapshot_driver.quiesce import Quiesce
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
            conf.load([]),
            Instance(guest.name, quiesce=policy),
            guest.describe(),
            guest.power_state(),
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
        self.assertIn("within '10' seconds", quiesce.reason)
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
        self.assertEqual('not wanted', quiesce.reason)


class FrozenTest(QuiesceCase):
    def test_frozen_inside_alone(self) -> None:
        quiesce = self.quiesce()
        self.assertFalse(self.machine.frozen)
        with quiesce.frozen():
            self.assertTrue(self.machine.frozen)
        self.assertFalse(self.machine.frozen)
        self.assertTrue(quiesce.done)
        self.assertEqual('by the guest agent', quiesce.reason)

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


class FreezeFailsTest(QuiesceCase):
    def setUp(self) -> None:
        super().setUp()
        self.machine.freeze_fails = True

    def test_auto(self) -> None:
        quiesce = self.quiesce()
        with quiesce.frozen():
            self.assertFalse(quiesce.done)
        self.assertFalse(quiesce.done)
        self.assertIn('freeze the file systems: ', quiesce.reason)
        self.assertIn('Input/output error', quiesce.reason)

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
            # What is not known to be frozen is not kept waiting.
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
                exception.NotGivenBack, '.*virsh domfsthaw.*'
            ),
            self.quiesce().frozen(),
        ):
            pass
        # For the whole of its bound, and not once or twice.
        self.assertLess(self.machine.refusals['fsThaw'], (1 << 30) - 10)

    def test_agent_hangs_while_frozen(self) -> None:
        with (
            testtools.ExpectedException(exception.NotGivenBack),
            self.quiesce(thaw_timeout=0).frozen(),
        ):
            self.machine.agent = Agent.HANGS

    def test_guest_has_stopped(self) -> None:
        quiesce = self.quiesce()
        with quiesce.frozen():
            self.machine.stop()
        self.assertTrue(quiesce.done)

    def test_guest_is_saved(self) -> None:
        """It can't be thawed, and nobody waits for that."""
        quiesce = self.quiesce()
        with quiesce.frozen():
            FakeDomain(self.machine).managedSave(0)
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
