# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ddt
import fixtures
import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor import agent_channel
from nova_snapshot_driver.snapshot.capture import backup
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.state.journal import Journal
from tests.unit import documents
from tests.unit import tables
from tests.unit.fake_libvirt import Agent
from tests.unit.host import FakeHost


class AgentCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(
            fixtures.MockPatchObject(agent_channel, 'ANSWER_TIMEOUT', 0.02)
        )
        self.host = self.useFixture(FakeHost())
        self.machine = self.host.machine
        self.before = self.host.before()

    def channels(self) -> int:
        assert self.machine.live is not None
        return len(self.machine.live.findall('devices/channel'))


@ddt.ddt
class LostTest(AgentCase):
    """The agent as libvirt reports it, and as it is."""

    @tables.rows(
        {
            'answers': (Agent.ANSWERS, False),
            'hangs': (Agent.HANGS, False),
            'absent': (Agent.ABSENT, False),
            'cut_off': (Agent.CUT_OFF, True),
            'unheard': (Agent.UNHEARD, True),
        }
    )
    def test_agent(self, agent: Agent, is_lost: bool) -> None:
        self.machine.cut_off_agent(agent)
        self.assertIs(is_lost, self.host.guest().agent.is_lost())
        # No bound is left on what others ask it.
        self.assertEqual(
            libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK,
            self.machine.agent_timeout,
        )

    def test_agent_that_may_not_tell_the_time(self) -> None:
        self.machine.frozen = True
        self.assertFalse(self.host.guest().agent.is_lost())

    def test_guest_that_is_shut_off(self) -> None:
        self.machine.stop()
        self.assertFalse(self.host.guest().agent.is_lost())

    def test_libvirt_opens_no_channel(self) -> None:
        self.machine.cut_off_agent(Agent.UNHEARD)
        self.machine.refusals['openChannel'] = 1
        self.assertRaises(
            exception.HypervisorError, self.host.guest().agent.is_lost
        )


@ddt.ddt
class SnapshotTest(AgentCase):
    """An agent that is lost while the image is streamed."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(
            fixtures.MockPatchObject(backup, 'EVENT_PATIENCE', 0.0)
        )

    def take(self, agent: Agent) -> Snapshot:
        self.host.data_plane.at_extract = lambda: self.machine.cut_off_agent(
            agent
        )
        snapshot = self.host.snapshot()
        self.assertEqual([], self.host.differences(self.before))
        return snapshot

    @tables.rows({'cut_off': (Agent.CUT_OFF,), 'unheard': (Agent.UNHEARD,)})
    def test_lost(self, agent: Agent) -> None:
        (note,) = self.take(agent).notes
        self.assertIn('attached anew', note)
        self.assertIs(Agent.ANSWERS, self.machine.agent)
        self.assertIn('event=guest.agent-lost', self.host.log.output)

    @tables.rows({'cut_off': (Agent.CUT_OFF,), 'unheard': (Agent.UNHEARD,)})
    def test_channel_is_to_be_left_alone(self, agent: Agent) -> None:
        self.host.set('snapshot', 'reattach_agent', False)
        (note,) = self.take(agent).notes
        self.assertIn('Restart the agent in the guest, or libvirtd', note)
        self.assertIs(agent, self.machine.agent)

    @tables.rows(
        {
            'answers': (Agent.ANSWERS,),
            'hangs': (Agent.HANGS,),
            'absent': (Agent.ABSENT,),
        }
    )
    def test_not_lost(self, agent: Agent) -> None:
        self.assertEqual((), self.take(agent).notes)
        self.assertIs(agent, self.machine.agent)

    def test_failed_snapshot(self) -> None:
        def fail() -> None:
            self.machine.cut_off_agent(Agent.UNHEARD)
            raise exception.SourceUnreadable(reason='Input/output error')

        self.host.data_plane.at_extract = fail
        self.assertRaises(exception.SourceUnreadable, self.host.snapshot)
        self.assertIs(Agent.ANSWERS, self.machine.agent)
        self.assertEqual([], self.host.differences(self.before))

    def test_nothing_is_asked_after_a_short_job(self) -> None:
        """No event is lost in it."""
        self.useFixture(
            fixtures.MockPatchObject(backup, 'EVENT_PATIENCE', 30.0)
        )
        self.assertEqual((), self.take(Agent.UNHEARD).notes)
        self.assertIs(Agent.UNHEARD, self.machine.agent)

    def test_libvirt_does_not_say(self) -> None:
        """The image is complete all the same."""
        self.machine.refusals['openChannel'] = 1
        (note,) = self.take(Agent.UNHEARD).notes
        self.assertIn('is not known', note)

    def test_channel_can_not_be_attached(self) -> None:
        """The image stays, and the journal knows what is missing."""
        self.machine.refusals['attachDeviceFlags'] = 3
        self.host.data_plane.at_extract = lambda: self.machine.cut_off_agent(
            Agent.CUT_OFF
        )
        snapshot = self.host.snapshot()
        self.assertTrue(snapshot.unfinished)
        self.assertEqual(
            'active', self.host.glance.images[self.host.image]['status']
        )
        self.assertEqual(0, self.channels())
        (outcome,) = self.host.healer().heal(self.host.context)
        self.assertTrue(outcome.is_healed)
        self.assertEqual(1, self.channels())
        self.assertEqual([], self.host.differences(self.before))
        self.assertIn(self.host.image, self.host.glance.images)


class DeathTest(AgentCase):
    """A process died that had detached the channel, or was about to."""

    def setUp(self) -> None:
        super().setUp()
        self.entry = None

        def look() -> None:
            journal = Journal(self.host.directories.state)
            self.entry = journal.recall(documents.UUID)

        self.host.data_plane.at_extract = look
        self.host.snapshot()
        assert self.entry is not None
        Journal(self.host.directories.state).remember(self.entry)

    def heal(self) -> list[str]:
        outcomes = self.host.healer().heal(self.host.context)
        self.assertEqual([], self.host.differences(self.before))
        return [step.what for outcome in outcomes for step in outcome.steps]

    def test_channel_is_gone(self) -> None:
        self.machine.releases = 0
        device = self.host.guest().describe().agent_device
        assert device is not None
        self.machine.remove_device(device.alias)
        self.assertIn('attach the channel of its agent', self.heal())
        self.assertEqual(1, self.channels())

    def test_channel_is_there(self) -> None:
        self.assertNotIn('attach the channel of its agent', self.heal())
        self.assertEqual(1, self.channels())
