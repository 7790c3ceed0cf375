# SPDX-License-Identifier: Apache-2.0
"""The session of a snapshot: its guest, its request and its tools."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Self

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common.events import Event
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot import undo_tools
from nova_snapshot_driver.snapshot.capture.environment import Environment
from nova_snapshot_driver.snapshot.capture.quiesce import Quiesce
from nova_snapshot_driver.snapshot.plan.model import AnyPlan
from nova_snapshot_driver.snapshot.request import Request
from nova_snapshot_driver.snapshot.settings import Settings
from nova_snapshot_driver.state import status
from nova_snapshot_driver.state import watchdog
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.state.journal import Keeping
from nova_snapshot_driver.state.status import Status
from nova_snapshot_driver.takings.tools import UndoTools

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Session:
    """The session of one snapshot of one guest.

    :ivar unfinished: the journal entry of what has to go if no image results
    """

    settings: Settings
    journal: Journal
    environment: Environment
    guest: Guest
    request: Request
    unfinished: Entry

    def quiesce(self, plan: AnyPlan) -> Quiesce:
        return Quiesce(
            self.guest,
            plan,
            self.settings.capture.quiesce_timeout,
            self.settings.undo.thaw_timeout,
        )

    def undo_tools(self) -> UndoTools:
        """With these the guest is given back; what is taken is cancelled."""
        return dataclasses.replace(
            undo_tools.of(
                self.settings.undo,
                self.journal,
                self.guest.uuid,
                self.guest.name,
                self.guest,
            ),
            cancellation=self.request.cancellation,
        )

    def power_state(self) -> PowerState:
        """The activity of the guest; a shutdown gets the time to end."""
        return self.guest.power.settled_state(
            self.settings.capture.shutdown_timeout, self.request.cancellation
        )

    @contextlib.contextmanager
    def reported(self, plan: AnyPlan) -> Iterator[Self]:
        """The session, with progress that other processes of the host see."""
        artefacts = self.request.destination.artefacts
        with status.reported(
            self.settings.undo.state_directory,
            Status(
                domain=self.guest.name,
                uuid=self.guest.uuid,
                images=artefacts.images,
                files=artefacts.files,
                method=plan.method.value,
            ),
            self.request.progress,
        ) as progress:
            request = dataclasses.replace(self.request, progress=progress)
            yield dataclasses.replace(self, request=request)

    @contextlib.contextmanager
    def taking(self, entry: Entry, rest: Entry) -> Iterator[Keeping]:
        """Keep a journal entry while something may be taken from the guest.

        :param entry: for all that may be taken
        :param rest: what stays in the journal afterwards
        """
        with (
            watchdog.kept(self.settings.undo, self.guest),
            self.journal.kept(entry, rest) as keeping,
            self._nothing_comes_late(),
        ):
            yield keeping

    @contextlib.contextmanager
    def _nothing_comes_late(self) -> Iterator[None]:
        """Wait for calls without an answer, which may still take effect.

        :raises UndoFailed: one may still take something from the guest
        """
        try:
            yield
        except exception.UndoFailed:
            raise
        except BaseException as error:
            self._see_that_nothing_comes_late(error)
            raise

    def _see_that_nothing_comes_late(self, cause: BaseException) -> None:
        try:
            with undo.under_way():
                self.guest.settle()
        except exception.HypervisorSilent as error:
            raise exception.UndoFailed(
                domain=self.guest.name,
                undo='wait for its QEMU',
                reason=str(error).rstrip('.'),
                remedy='Something may be taken from it when it answers; the '
                'driver goes on trying to give that back.',
            ) from cause

    def announce(self, plan: AnyPlan) -> None:
        self.environment.planned(plan.method.value)
        events.log_event(
            LOG.info,
            Event.PLANNED,
            f'Snapshot of domain {self.guest.name}: {plan}',
            self.guest.uuid,
            method=plan.method.value,
            quiesce=plan.freeze,
        )
