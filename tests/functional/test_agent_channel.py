# SPDX-License-Identifier: Apache-2.0
"""An agent that comes, goes or restarts while its guest is snapshotted.

libvirt hears of it when the backup job has ended, or never; see
``nova_snapshot_driver.hypervisor.agent_channel``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lab.bounded import wait_until
from lab.options import GuestOptions
from nova_snapshot_driver import conf
from nova_snapshot_driver.hypervisor.agent_channel import EVENT_PATIENCE
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot import undo_tools
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings import lost_agent
from nova_snapshot_driver.takings.tools import UndoTools
from tests import laws
from tests.functional import base

#: How long a job has to last for events to be lost, in seconds: the second of
#: two is waited for when libvirt has given up the first one.
TWO_EVENTS = 2 * EVENT_PATIENCE + 4
ONE_EVENT = EVENT_PATIENCE + 6

#: How long a late agent is not there, in seconds: a busy machine may take some
#: until the job has begun.
LATE = 12
LATE_EVENT = EVENT_PATIENCE + LATE

#: How long the end of a snapshot may take that has all of its data on a busy
#: machine, in seconds: far less than libvirt's patience with a single event.
GIVE_BACK = EVENT_PATIENCE / 3

#: The agent looks for its port every five seconds.
AGENT_RETURNS = 30


class Meanwhile:
    """Something happens at the first progress, and the job lasts on.

    :param happens: then
    :param lasts: seconds
    """

    def __init__(self, happens: Callable[[], object], lasts: float) -> None:
        self._happens = happens
        self._lasts = lasts
        self.has_happened = False

    def __call__(self, step: str, done: int, total: int) -> None:
        if self.has_happened:
            return
        self.has_happened = True
        self._happens()
        # libvirt's patience is what is outlasted here, and that is a time.
        time.sleep(self._lasts)


class AgentChannelCase(base.SnapshotTest):
    def take(
        self,
        happens: Callable[[], object],
        lasts: float,
        reattach_agent: bool = True,
    ) -> Snapshot:
        """A snapshot in the middle of which something happens."""
        meanwhile = Meanwhile(happens, lasts)
        image = self.output / 'image'
        image.unlink(missing_ok=True)
        snapshot = self.driver(reattach_agent=reattach_agent).snapshot_to_file(
            Instance(self.guest.name), str(image), progress=meanwhile
        )
        self.assertTrue(meanwhile.has_happened)
        self.assertLess(snapshot.seconds['give_back'], GIVE_BACK)
        self.assertFalse(snapshot.unfinished)
        return snapshot

    def setUp(self) -> None:
        super().setUp()
        self.before = laws.Before.of(self.connection, self.guest.name)

    def agent_is_back(self) -> None:
        wait_until(self.guest.agent_answers, 'the guest agent', AGENT_RETURNS)
        self.assertTrue(self.guest.agent_connected())
        self.assertEqual([], self.broken_laws(self.before))


class RestartTest(AgentChannelCase):
    options = GuestOptions('restart')

    def restart(self) -> None:
        self.guest.end_agent('sleep 1; agent --retry-path')

    def test_events_are_heard_late(self) -> None:
        """The job ends before libvirt gives up, and does not wait for it."""
        snapshot = self.take(self.restart, 4)
        self.assertEqual((), snapshot.notes)
        self.agent_is_back()

    def test_both_events_are_lost(self) -> None:
        snapshot = self.take(self.restart, TWO_EVENTS)
        (note,) = snapshot.notes
        self.assertIn('attached anew', note)
        self.agent_is_back()
        self.assertTrue(self.take(lambda: None, 0).quiesced)


class LateTest(AgentChannelCase):
    options = GuestOptions('late')

    def undo_tools(self, guest: Guest) -> UndoTools:
        settings = conf.read_settings(self.configuration()).undo
        journal = Journal(settings.state_directory)
        return undo_tools.of(settings, journal, guest.uuid, guest.name, guest)

    def test_agent_comes_meanwhile(self) -> None:
        self.guest.end_agent(f'sleep {LATE}; agent --retry-path')
        wait_until(
            lambda: not self.guest.agent_connected(), 'the end of it', 10
        )
        snapshot = self.take(lambda: None, LATE_EVENT)
        self.assertFalse(snapshot.quiesced)
        self.assertIn('attached anew', snapshot.notes[0])
        self.agent_is_back()

    def test_channel_is_to_be_left_alone(self) -> None:
        self.guest.end_agent(f'sleep {LATE}; agent --retry-path')
        wait_until(
            lambda: not self.guest.agent_connected(), 'the end of it', 10
        )
        snapshot = self.take(lambda: None, LATE_EVENT, reattach_agent=False)
        self.assertIn('libvirtd', snapshot.notes[0])
        self.assertFalse(self.guest.agent_connected())
        # The repair that a snapshot would make by default.
        guest = self.healer().guest(self.guest.name)
        self.assertTrue(guest.agent.is_lost())
        lost_agent.reattach(self.undo_tools(guest))
        self.agent_is_back()
        self.assertFalse(guest.agent.is_lost())


class VanishTest(AgentChannelCase):
    options = GuestOptions('vanish')

    def test_agent_goes_meanwhile(self) -> None:
        """The next one is not taken for the one that is gone."""
        self.take(lambda: self.guest.end_agent('sleep 40; agent'), ONE_EVENT)
        self.assertFalse(self.guest.agent_connected())
        self.agent_is_back()


class RebootTest(AgentChannelCase):
    options = GuestOptions('reboot')

    def test_guest_reboots_meanwhile(self) -> None:
        self.take(self.guest.reboot_hard, TWO_EVENTS)
        self.agent_is_back()
        self.guest.still_counts()
