# SPDX-License-Identifier: Apache-2.0
"""A guest that stands still while its volumes get their snapshots."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.snapshot.capture.quiesce import Quiesce
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.model import Pause
from nova_snapshot_driver.snapshot.plan.model import VolumesPlan
from nova_snapshot_driver.takings import pause
from nova_snapshot_driver.takings.tools import UndoTools

LOG = logging.getLogger(__name__)


class Stall:
    """The stillness of one guest, which is frozen, paused, both or neither.

    A pause that reports a failure may take effect all the same: whoever asks
    for one owes a resume.

    :param tools: with which the guest goes on, in the time that they say
    :ivar paused: the guest was paused at the instant of the snapshot
    :ivar reason: why it was, or was not
    :ivar seconds: how long it stood still
    """

    def __init__(
        self, plan: VolumesPlan, quiesce: Quiesce, tools: UndoTools
    ) -> None:
        self._guest = tools.guest
        self._quiesce = quiesce
        self._pause = plan.pause
        self._tools = tools
        self.paused = False
        self.reason = plan.pause_reason
        self.seconds = 0.0

    @contextlib.contextmanager
    def held(self) -> Iterator[float]:
        """The guest stands still inside, where that was planned.

        :returns: until when it may (by ``wait.CLOCK``)
        :raises QuiesceFailed: it could not be frozen, and that is required
        :raises HypervisorTimeout: it could not be paused
        :raises FreezeLost: it has not stood still until the end
        """
        began = time.monotonic()
        until = wait.CLOCK.monotonic() + self._tools.settings.stall_timeout
        try:
            with self._quiesce.frozen(), self._paused():
                yield until
        finally:
            if self._quiesce.done or self.paused:
                self.seconds = round(time.monotonic() - began, 3)
        if not self._quiesce.lasted:
            raise exception.FreezeLost(
                domain=self._guest.name, seconds=self.seconds
            )

    @contextlib.contextmanager
    def _paused(self) -> Iterator[None]:
        if self._pause is Pause.UNLESS_QUIESCED and self._quiesce.done:
            self.reason = Ground(Words.QUIESCED)
            yield
            return
        if self._pause is Pause.NEVER:
            yield
            return
        began = time.monotonic()
        try:
            with pause.Pause().held(self._tools):
                self.paused = True
                yield
        finally:
            events.log_stall(
                LOG.info,
                self._guest,
                'pause',
                round(time.monotonic() - began, 3),
            )
