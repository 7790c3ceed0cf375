# SPDX-License-Identifier: Apache-2.0
"""What a guest has back of a snapshot that died."""

from __future__ import annotations

from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver import quiesce
from nova_snapshot_driver.domain import HostDevice
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.guest import Definition
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.recovery.undoing import Undoing

LOG = logging.getLogger(__name__)


class TakenGuest:
    """A guest from which a snapshot has taken something.

    :param entry: what that is
    """

    def __init__(
        self,
        guest: Guest,
        entry: Entry,
        undoing: Undoing,
        conf: cfg.ConfigOpts,
    ) -> None:
        self._guest = guest
        self._entry = entry
        self._undoing = undoing
        self._conf = conf
        self._is_up = True

    def wake(self) -> None:
        """Have it as lively as it was found."""
        guest, entry, undo = self._guest, self._entry, self._undoing.undo
        state = entry.power_state
        if state is not None:
            self._is_up = undo(
                f'have it {state.value} again',
                lambda: guest.bring_back(state),
                power_state=None,
            )
        if not self._is_up:
            return
        # No agent answers in a guest that is paused.
        if entry.paused and not undo(
            'resume it', guest.unpause, self._runs, paused=False
        ):
            return
        if entry.frozen:
            undo(
                'thaw its file systems',
                self._thaw,
                self._runs,
                frozen=False,
            )

    def _thaw(self) -> None:
        quiesce.thaw(
            self._guest,
            self._conf.snapshot.quiesce_timeout,
            self._conf.snapshot.guest_timeout,
        )

    def restore(self) -> None:
        """Have it equipped as it was found."""
        if self._entry.persistent:
            self._undoing.undo(
                'have it defined',
                lambda: _define_again(self._guest, self._entry.definition),
                persistent=False,
            )
        left = list(self._entry.devices) if self._is_up else []
        for device in self._entry.devices if self._is_up else ():
            if self._attach(device, [each for each in left if each != device]):
                left.remove(device)

    def _attach(self, device: HostDevice, others: list[HostDevice]) -> bool:
        timeout = self._conf.snapshot.guest_timeout
        return self._undoing.undo(
            f'attach {device.alias}',
            # One that is still there may have been asked to go.
            lambda: self._guest.attach(device, timeout),
            self._runs,
            devices=tuple(others),
        )

    def _runs(self) -> bool:
        """Whether there is anything that could have been taken from it."""
        if self._guest.is_active():
            return True
        return bool(
            self._undoing.is_rehearsal
            and self._entry.power_state
            and self._guest.power_state() is PowerState.SUSPENDED
        )


def _define_again(guest: Guest, definition: Definition) -> None:
    if _is_persistent(guest):
        # The operator's own, or ours, cut short before its last step.
        guest.set_autostart(definition.autostart)
    else:
        LOG.warning('Domain %s is defined again', guest.name)
        guest.define(definition)


def _is_persistent(guest: Guest) -> bool:
    try:
        return guest.persistent()
    except exception.DomainNotFound:
        # It has stopped while it was transient.
        return False
