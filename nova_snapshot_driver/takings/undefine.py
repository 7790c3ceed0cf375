# SPDX-License-Identifier: Apache-2.0
"""A domain without its persistent definition."""

from __future__ import annotations

import dataclasses

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor.guest import Definition
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.takings.taking import HeldTaking
from nova_snapshot_driver.takings.tools import UndoTools

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Undefine(HeldTaking):
    """A persistent domain is transient, as a copy of its disk wants it.

    :ivar definition: as it was found; there are secrets in it
    """

    definition: Definition

    KIND = 'undefine'
    OPERATION = 'define'

    def describe(self) -> str:
        return 'have it defined'

    def state(self) -> str:
        return 'undefined'

    def do(self, tools: UndoTools) -> None:
        tools.guest.undefine()

    def undo(self, tools: UndoTools) -> None:
        """Define the domain, unless its owner has begun to destroy it."""
        with tools.claimed() as is_wanted:
            if is_wanted:
                _define(tools.guest, self.definition)

    def remedy(self, tools: UndoTools) -> str:
        return (
            'Its definition is kept in [snapshot] state_directory, and the '
            'next snapshot of it defines it again.'
        )


def _define(guest: Guest, definition: Definition) -> None:
    if _is_persistent(guest):
        # The operator's own, or ours, cut short before its last step.
        guest.set_autostart(definition.autostart)
    else:
        LOG.info('Domain %s is defined again', guest.name)
        guest.define(definition)


def _is_persistent(guest: Guest) -> bool:
    try:
        return guest.persistent()
    except exception.DomainNotFound:
        # The guest stopped while its domain was transient.
        return False
