# SPDX-License-Identifier: Apache-2.0
"""The guest agent that libvirt has lost while a backup job ran."""

from __future__ import annotations

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common.events import Event
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.takings.tools import UndoSettings

LOG = logging.getLogger(__name__)

#: Advice for a person whose guest has a lost agent.
REMEDY = (
    'Restart the agent in the guest, or libvirtd (virtqemud): no guest takes '
    'notice of the latter.'
)


def recover(guest: Guest, settings: UndoSettings) -> str | None:
    """Have libvirt reach the agent again, where it has lost it.

    :returns: what has happened, for a person; None where nothing has
    :raises UndoFailed: the guest is left without the channel of its agent
    """
    try:
        if not guest.agent.is_lost():
            return None
        if not settings.reattach_agent:
            note = (
                'libvirt has lost the guest agent while the backup job ran. '
                f'{REMEDY}'
            )
        else:
            guest.agent.reattach(settings.device_detach_timeout)
            note = (
                'libvirt had lost the guest agent while the backup job ran, '
                'and the channel of the agent was attached anew. If the agent '
                'does not come back within seconds: start it in the guest.'
            )
    except exception.UndoFailed:
        raise
    except exception.SnapshotError as error:
        note = (
            'Whether libvirt still reaches the guest agent is not known: '
            f'{error} {REMEDY}'
        )
    events.log_event(
        LOG.warning,
        Event.AGENT_LOST,
        f'Domain {guest.name}: {note}',
        guest.uuid,
        reattached=settings.reattach_agent,
    )
    return note
