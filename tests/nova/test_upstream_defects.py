# SPDX-License-Identifier: Apache-2.0
"""Where the snapshots of Nova's own driver fail, and these do not.

Those that show elsewhere in this directory: ``TaskStateErrorTest`` (a guest
that stays suspended), ``DestroyTest`` (a snapshot that nothing stops),
``InitHostTest`` (what a killed nova-compute leaves), ``SnapshotTest`` of the
surroundings (uploads that stop all work on disks) and ``ClaimTest`` (a guest
that stands still for privsep).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import libvirt
from nova import exception as nova_exception
from nova.tests.fixtures import libvirt as fakelibvirt

from nova_snapshot_driver.nova.errors import SnapshotFailed
from tests.nova.base import NovaCase
from tests.nova.host import PATIENCE
from tests.nova.host import REQUIRES_QUIESCE
from tests.nova.host import ComputeCase
from tests.nova.host import ComputeHost
from tests.nova.host import instance
from tests.unit.fake_libvirt import Agent


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and all that have led to it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


class CopyTest(ComputeCase):
    def setUp(self) -> None:
        super().setUp()
        self.host.set('snapshot', 'method', 'mirror')

    def fails(self, code: str) -> SnapshotFailed:
        error = self.assertRaises(SnapshotFailed, self.host.take)
        self.assertIn(f'({code})', str(error))
        self.assert_given_back()
        self.assert_image_is_gone()
        assert isinstance(error, SnapshotFailed)
        return error

    def test_copy_that_never_ends_is_given_up(self) -> None:
        """Upstream waits for the copy without a bound."""
        self.host.machine.polls_until_ready = 1_000_000
        self.host.set('snapshot', 'mirror_timeout', 1)
        self.fails('hypervisor-timeout')

    def test_copy_that_dies_is_no_success(self) -> None:
        """Upstream takes a job that is gone for one that has succeeded.

        With a full disk it then stumbles over the end of that job and skips
        the rest of its ``finally``: the domain stays transient, and the guest
        frozen.
        """
        self.host.machine.polls_until_ready = 5
        self.host.machine.job_dies_at = 3
        self.fails('mirror-failed')

    def test_copy_whose_end_is_unknown_is_no_success(self) -> None:
        """The end of the copy is unknown when it is ended."""
        self.host.machine.job_end = None
        self.fails('mirror-failed')

    def test_failure_is_not_blamed_on_something_else(self) -> None:
        """Upstream has the whole way inside of an ``except`` clause, so that
        every traceback begins with a direct snapshot that is not implemented,
        and that its own clean-ups are never reached.
        """
        self.host.machine.polls_until_ready = 5
        self.host.machine.job_dies_at = 3
        for error in chain(self.fails('mirror-failed')):
            self.assertNotIsInstance(error, NotImplementedError)


class ConnectionTest(ComputeCase):
    def test_libvirtd_that_dies_while_it_is_asked(self) -> None:
        """Upstream waits for a lock that it holds itself, for ever."""
        host = self.host.compute._host
        lost = host._get_connection()

        def die() -> None:
            """As libvirt has it: on the thread that asks."""
            host._close_callback(
                lost, libvirt.VIR_CONNECT_CLOSE_REASON_EOF, None
            )
            raise fakelibvirt.make_libvirtError(
                fakelibvirt.libvirtError,
                'End of file while reading data',
                error_code=fakelibvirt.VIR_ERR_INTERNAL_ERROR,
                error_domain=fakelibvirt.VIR_FROM_RPC,
            )

        lost.getLibVersion = die
        found: list[object] = []
        # A daemon thread: nobody waits for a thread that waits for ever.
        thread = threading.Thread(
            target=lambda: found.append(host._get_connection()), daemon=True
        )
        thread.start()
        thread.join(PATIENCE)
        self.assertEqual(1, len(found))
        self.assertIsNot(lost, found[0])


class QuiesceTest(NovaCase):
    def on(self, agent: Agent = Agent.ANSWERS) -> ComputeHost:
        host: ComputeHost = self.useFixture(ComputeHost(agent=agent))
        host.set('snapshot', 'quiesce_timeout', 1)
        return host

    def fails(self, host: ComputeHost) -> None:
        before = host.before()
        self.assertRaises(
            nova_exception.InstanceQuiesceFailed,
            host.take,
            instance(system_metadata=REQUIRES_QUIESCE),
        )
        self.assertEqual([], host.differences(before))
        self.assertNotIn(host.image, host.glance.images)

    def test_freeze_that_fails_fails_what_requires_it(self) -> None:
        """Upstream looks whether a freeze is possible, and when it then fails
        makes the image all the same, os_require_quiesce or not.
        """
        host = self.on()
        host.machine.freeze_fails = True
        self.fails(host)

    def test_freeze_that_comes_late_is_thawed(self) -> None:
        host = self.on()
        host.machine.freeze_is_late = True
        self.fails(host)

    def test_agent_that_hangs_holds_up_nobody(self) -> None:
        """Upstream asks it without a bound: the snapshot, the definition of
        the domain and libvirt's lock on it hang as long as the agent does.
        """
        host = self.on(Agent.HANGS)
        before = host.before()
        host.take()
        image = host.glance.images[host.image]
        self.assertEqual('active', image['status'])
        self.assertEqual('false', image['snapshot_quiesced'])
        self.assertEqual([], host.differences(before))

    def test_agent_that_hangs_fails_what_requires_it(self) -> None:
        self.fails(self.on(Agent.HANGS))
