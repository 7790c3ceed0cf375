# SPDX-License-Identifier: Apache-2.0
"""Freezing and thawing the file systems of a guest, bounded in time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver import events
from nova_snapshot_driver import exception
from nova_snapshot_driver.block_copy import POLL_INTERVAL
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.events import Event
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.plan import AnyPlan

LOG = logging.getLogger(__name__)


STOPPED = (PowerState.SHUT_OFF, PowerState.SUSPENDED)


class Quiesce:
    """The stillness of a guest's file systems in one snapshot.

    A freeze that reports a failure may take effect all the same, even after
    its bound: whoever asks for one owes a thaw.

    :ivar done: the file systems were frozen at the instant of the snapshot
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
        self._frozen = 0
        self.done = False
        self.lasted = True
        self.seconds = 0.0
        self.reason = plan.quiesce_reason

    @property
    def possible(self) -> bool:
        """As far as is known, the file systems can and shall be frozen."""
        return self._wanted

    def check(self) -> None:
        """See that the agent answers, before anything is touched.

        :raises QuiesceFailed: it does not, and quiescing is required
        """
        if not self._wanted:
            return
        try:
            with self._guest.agent_timeout(self._timeout):
                self._guest.ping_agent()
        except exception.HypervisorError as error:
            self._cannot(error)

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
                events.tell_still(
                    LOG.info, self._guest, 'freeze', self.seconds
                )

    def _freeze(self) -> None:
        self._owes_thaw = True
        try:
            with self._guest.agent_timeout(self._timeout):
                self._frozen = self._guest.freeze()
        except exception.HypervisorError as error:
            # Not known to be frozen, and so not to be kept waiting either.
            self._try_to_thaw()
            self._cannot(error)
        else:
            self.done = True

    def _cannot(self, error: exception.HypervisorError) -> None:
        self._wanted = False
        self.reason = f'{error.fields["operation"]}: {error.fields["reason"]}'
        if self._required:
            raise exception.QuiesceFailed(
                domain=self._guest.name, reason=self.reason
            ) from error
        LOG.warning(
            'Domain %s is not quiesced: %s', self._guest.name, self.reason
        )

    def _try_to_thaw(self) -> None:
        self._owes_thaw = _thawed(self._guest, self._timeout) is None

    def _thaw(self) -> None:
        if self._owes_thaw:
            thawed = thaw(self._guest, self._timeout, self._thaw_timeout)
            self.lasted = bool(thawed) or not self._frozen


def thaw(guest: Guest, timeout: int, patience: int) -> int:
    """Thaw the file systems, and try again until the agent has done it.

    A guest that has stopped has nothing to be thawed.

    :param timeout: the seconds in which the agent must answer
    :param patience: the seconds after which it is given up
    :returns: how many were frozen still, as far as that is known
    :raises NotGivenBack: it has not been done by then
    """
    deadline = time.monotonic() + patience
    while (thawed := _thawed(guest, timeout)) is None:
        if _has_stopped(guest):
            return 0
        if time.monotonic() > deadline:
            events.tell(
                LOG.critical,
                Event.NOT_GIVEN_BACK,
                f'Domain {guest.name} could not be thawed',
                guest.uuid,
                undo='thaw',
            )
            raise exception.NotGivenBack(
                domain=guest.name,
                undo='thaw',
                reason='the guest agent does not answer',
                remedy=f'Thaw it with "virsh domfsthaw {guest.name}" or '
                'reset it.',
            )
        time.sleep(POLL_INTERVAL)
    return thawed


def _thawed(guest: Guest, timeout: int) -> int | None:
    """
    :returns: how many were frozen still; None where it is not done
    """
    try:
        with guest.agent_timeout(timeout):
            return guest.thaw()
    except exception.HypervisorError as error:
        LOG.info('%s; it is tried again', error)
        return None
    except exception.DomainNotFound:
        return 0


def _has_stopped(guest: Guest) -> bool:
    try:
        return guest.power_state() in STOPPED
    except exception.DomainNotFound:
        return True
    except exception.SnapshotError:
        return False
