# SPDX-License-Identifier: Apache-2.0
"""A guest whose file systems are frozen."""

from __future__ import annotations

import dataclasses
from typing import NoReturn

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.events import Event
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.takings.managed_save import ManagedSave
from nova_snapshot_driver.takings.pause import Pause
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.tools import UndoTools

LOG = logging.getLogger(__name__)

#: The states of a guest whose system does not run, and has nothing to thaw.
STOPPED = (
    PowerState.CRASHED,
    PowerState.SHUTTING_DOWN,
    PowerState.SHUT_OFF,
    PowerState.SUSPENDED,
)


@dataclasses.dataclass(frozen=True)
class Freeze(Taking):
    """The file systems stand still."""

    KIND = 'freeze'
    WHOSE = Whose.GUEST
    # No agent answers in a guest that is paused.
    AFTER = frozenset({ManagedSave.KIND, Pause.KIND})

    def describe(self) -> str:
        return 'thaw its file systems'

    def state(self) -> str:
        return 'frozen'

    def is_due(self, tools: UndoTools) -> bool:
        return tools.has_running_guest()

    def undo(self, tools: UndoTools) -> None:
        thaw(
            tools.guest,
            tools.settings.quiesce_timeout,
            tools.settings.thaw_timeout,
        )


def thaw(guest: Guest, timeout: int, patience: int) -> int:
    """Thaw the file systems, and try again until the agent has done it.

    A guest that has stopped has nothing to be thawed.

    :param timeout: the seconds in which the agent must answer
    :param patience: the seconds after which it is given up
    :returns: how many were frozen still, as far as that is known
    :raises UndoFailed: it has not been done by then
    """
    thawed = None

    def is_decided() -> bool:
        nonlocal thawed
        thawed = try_to_thaw(guest, timeout)
        if thawed is None and _has_stopped(guest):
            thawed = 0
        return thawed is not None or _is_silent(guest)

    wait.holds_within(is_decided, patience)
    if thawed is None:
        _fail(guest)
    return thawed


def try_to_thaw(guest: Guest, timeout: int) -> int | None:
    """Ask the agent once.

    :returns: how many were frozen still; None where it is not done
    """
    try:
        with undo.under_way(), guest.agent.response_timeout(timeout):
            return guest.agent.thaw()
    except (exception.HypervisorError, exception.HypervisorSilent) as error:
        LOG.info('%s; it is tried again', error)
        return None
    except exception.DomainNotFound:
        return 0


def _fail(guest: Guest) -> NoReturn:
    events.log_event(
        LOG.critical,
        Event.NOT_GIVEN_BACK,
        f'Domain {guest.name} could not be thawed',
        guest.uuid,
        undo='thaw',
    )
    raise exception.UndoFailed(
        domain=guest.name,
        undo='thaw',
        reason='the guest agent does not answer (option [snapshot] '
        'thaw_timeout)',
        remedy=f'Thaw it with "virsh domfsthaw {guest.name}" or reset it.',
    )


def _has_stopped(guest: Guest) -> bool:
    try:
        with undo.under_way():
            return guest.power.state() in STOPPED
    except exception.DomainNotFound:
        return True
    except exception.SnapshotError:
        return False


def _is_silent(guest: Guest) -> bool:
    """Whether it has been waited for already, by another call."""
    try:
        guest.settle()
    except exception.HypervisorSilent:
        return True
    return False
