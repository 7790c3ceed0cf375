# SPDX-License-Identifier: Apache-2.0
"""Freezing and thawing the file systems of a guest, bounded in time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.model import AnyPlan
from nova_snapshot_driver.takings import freeze

LOG = logging.getLogger(__name__)


class Quiesce:
    """The stillness of a guest's file systems in one snapshot.

    A freeze that reports a failure may take effect all the same, even after
    its bound: whoever asks for one owes a thaw. One that the agent has refused
    to begin has no effect, and somebody else may have frozen the file systems:
    then they are not ours to thaw.

    :ivar file_systems: how many were frozen at the instant of the snapshot
    :ivar reason: why they were, or were not
    :ivar lasted: they were frozen still when they were to be thawed. Windows
        thaws by itself after 10 seconds
    :ivar seconds: how long they were
    """

    def __init__(
        self, guest: Guest, plan: AnyPlan, timeout: int, thaw_timeout: int
    ) -> None:
        self._guest = guest
        self._required = plan.quiesce_required
        self._wanted = plan.freeze
        self._timeout = timeout
        self._thaw_timeout = thaw_timeout
        self._owes_thaw = False
        self.file_systems = 0
        self.lasted = True
        self.seconds = 0.0
        self.reason = plan.quiesce_reason

    @property
    def possible(self) -> bool:
        """As far as is known, the file systems can and shall be frozen."""
        return self._wanted

    @property
    def done(self) -> bool:
        """The agent has frozen something at the instant of the snapshot."""
        return self.file_systems > 0

    def check(self) -> None:
        """See that the agent lives, before anything is touched.

        Whether it freezes, the freeze alone can tell.

        :raises QuiesceFailed: it does not, and quiescing is required
        """
        if not self._wanted:
            return
        try:
            with self._guest.agent.response_timeout(self._timeout):
                self._guest.agent.ping()
        except exception.HypervisorError as error:
            self._cannot(_ground_of(error), error)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The file systems stand still inside, where that was planned.

        :raises QuiesceFailed: they could not be frozen, and it is required
        """
        if not self._wanted:
            yield
            return
        began = time.monotonic()
        try:
            self._freeze()
            yield
        finally:
            self._thaw()
            if self.done:
                self.seconds = round(time.monotonic() - began, 3)
                events.log_stall(LOG.info, self._guest, 'freeze', self.seconds)

    def _freeze(self) -> None:
        self._owes_thaw = True
        try:
            with self._guest.agent.response_timeout(self._timeout):
                self.file_systems = self._guest.agent.freeze()
        except exception.AgentRefused as error:
            self._owes_thaw = False
            self._cannot(_ground_of(error), error)
        except exception.HypervisorError as error:
            # Not known to be frozen, and so not to be kept waiting either.
            self._try_to_thaw()
            self._cannot(_ground_of(error), error)
        else:
            if not self.done:
                self.file_systems = 0
                # Older agents count themselves as frozen all the same.
                self._try_to_thaw()
                self._cannot(Ground(Words.NOTHING_TO_FREEZE))

    def _cannot(
        self, ground: Ground, error: exception.HypervisorError | None = None
    ) -> None:
        self._wanted = False
        self.reason = ground
        if self._required:
            raise exception.QuiesceFailed(
                domain=self._guest.name,
                reason=str(ground),
                public=ground.public,
            ) from error
        LOG.warning(
            'Domain %s is not quiesced: %s', self._guest.name, self.reason
        )

    def _try_to_thaw(self) -> None:
        self._owes_thaw = (
            freeze.try_to_thaw(self._guest, self._timeout) is None
        )

    def _thaw(self) -> None:
        if self._owes_thaw:
            thawed = freeze.thaw(
                self._guest, self._timeout, self._thaw_timeout
            )
            self.lasted = bool(thawed) or not self.done


def _ground_of(error: exception.HypervisorError) -> Ground:
    refuses = isinstance(error, exception.AgentRefused)
    return Ground(
        Words.AGENT_REFUSES if refuses else Words.AGENT_FAILS,
        f'{error.fields["operation"]}: {error.fields["reason"]}',
    )
