# SPDX-License-Identifier: Apache-2.0
"""A guest that stands still while its volumes are cut."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver import events
from nova_snapshot_driver import exception
from nova_snapshot_driver import undo
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.plan import Pause
from nova_snapshot_driver.plan import VolumesPlan
from nova_snapshot_driver.quiesce import Quiesce

LOG = logging.getLogger(__name__)


class Stillness:
    """The stillness of one guest, which is frozen, paused, both or neither.

    A pause that reports a failure may take effect all the same: whoever asks
    for one owes a resume.

    :param timeout: the seconds in which the guest has to go on
    :ivar paused: the guest was paused at the instant of the snapshot
    :ivar reason: why it was, or was not
    :ivar seconds: how long it stood still
    """

    def __init__(
        self, guest: Guest, plan: VolumesPlan, quiesce: Quiesce, timeout: int
    ) -> None:
        self._guest = guest
        self._quiesce = quiesce
        self._pause = plan.pause
        self._timeout = timeout
        self.paused = False
        self.reason = plan.pause_reason
        self.seconds = 0.0

    @contextlib.contextmanager
    def held(self) -> Iterator[float]:
        """The guest stands still inside, where that was planned.

        :returns: until when it may (``time.monotonic``)
        :raises QuiesceFailed: it could not be frozen, and that is required
        :raises HypervisorTimeout: it could not be paused
        :raises StillnessLost: it has not stood still until the end
        """
        began = time.monotonic()
        try:
            with self._quiesce.frozen(), self._paused():
                yield began + self._timeout
        finally:
            if self._quiesce.done or self.paused:
                self.seconds = round(time.monotonic() - began, 3)
        if not self._quiesce.lasted:
            raise exception.StillnessLost(
                domain=self._guest.name, seconds=self.seconds
            )

    @contextlib.contextmanager
    def _paused(self) -> Iterator[None]:
        if self._pause is Pause.UNLESS_QUIESCED and self._quiesce.done:
            self.reason = 'it is quiesced'
            yield
            return
        if self._pause is Pause.NEVER:
            yield
            return
        began = time.monotonic()
        try:
            self._guest.pause(self._timeout)
            self.paused = True
            yield
        finally:
            undo.surely(
                self._guest.name,
                'resume',
                self._guest.unpause,
                f'Do it with "virsh resume {self._guest.name}".',
            )
            events.tell_still(
                LOG.info,
                self._guest,
                'pause',
                round(time.monotonic() - began, 3),
            )
