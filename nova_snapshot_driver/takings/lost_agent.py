# SPDX-License-Identifier: Apache-2.0
"""The guest agent that libvirt has lost while a backup job ran."""

from __future__ import annotations

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common.events import Event
from nova_snapshot_driver.takings.agent_channel import AgentChannel
from nova_snapshot_driver.takings.tools import UndoTools

LOG = logging.getLogger(__name__)

#: Advice for a person whose guest has a lost agent.
REMEDY = (
    'Restart the agent in the guest, or libvirtd (virtqemud): no guest takes '
    'notice of the latter.'
)


def recover(tools: UndoTools) -> str | None:
    """Have libvirt reach the agent again, where it has lost it.

    :returns: what has happened, for a person; None where nothing has
    :raises UndoFailed: the guest is left without the channel of its agent
    """
    guest, settings = tools.guest, tools.settings
    try:
        if not guest.agent.is_lost():
            return None
        if not settings.reattach_agent:
            note = (
                'libvirt has lost the guest agent while the backup job ran. '
                f'{REMEDY}'
            )
        else:
            reattach(tools)
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


def reattach(tools: UndoTools) -> None:
    """Have libvirt see the channel of the agent as it is.

    The guest sees its port go and come. An agent that is looked after, as by
    systemd or with ``--retry-path``, is there again within seconds; another
    one ends with the port.

    :raises UndoFailed: the channel could not be attached again
    """
    channel = tools.guest.describe().agent_device
    if channel is not None:
        with AgentChannel(channel).held(tools):
            pass
