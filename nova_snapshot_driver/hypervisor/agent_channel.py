# SPDX-License-Identifier: Apache-2.0
"""The channel of the guest agent, where libvirt and QEMU differ about it.

QEMU tells libvirt by an event when an agent opens its end of the channel, and
when it closes that. While a backup job runs, libvirt's event thread waits for
the end of the job before it takes note of such an event, gives up after 30
seconds, and forgets the event: it has "no agent" where one runs, or keeps a
connection that it has declared dead ("Guest agent disappeared"). Nothing but a
new event mends that. There is one such thread for all guests.

Source: ``processSerialChangedEvent`` and ``virDomainObjBeginJobInternal`` in
libvirt 9.0.
"""

from __future__ import annotations

import contextlib
import json
import secrets

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.hypervisor.bindings import libvirt
from nova_snapshot_driver.hypervisor.domain import AGENT_CHANNEL
from nova_snapshot_driver.hypervisor.libvirt_objects import LibvirtObject

#: How long libvirt waits with an event of the channel, in seconds
#: (``VIR_JOB_WAIT_TIME``). No event is lost in a shorter job.
EVENT_PATIENCE = 30

#: How long an agent may take to answer, in seconds, and how often it is
#: looked whether it has.
ANSWER_TIMEOUT = 0.5
ANSWER_INTERVAL = 0.01

#: libvirt's bound for one command, which it takes in whole seconds.
COMMAND_TIMEOUT = 1

#: Texts of libvirt's errors where it has no usable connection. An agent that
#: takes its time has the same error code.
_NO_CONNECTION = (
    'disappeared',
    'is not connected',
    'not available due to an error',
)

#: The value that the Python binding returns when there is nothing to read yet.
_NOTHING_YET = -2


class AgentChannel:
    """The channel of one guest.

    Its methods raise ``libvirtError``, and ``HypervisorSilent``.

    :param handle: a ``virDomain``
    """

    def __init__(self, handle: LibvirtObject) -> None:
        self._handle = handle

    def is_open(self) -> bool:
        """Whether libvirt has a connection that it uses.

        An agent that does not answer, or refuses to, is no reason to doubt it.
        """
        self._handle.agentSetResponseTimeout(COMMAND_TIMEOUT, 0)
        try:
            self._handle.getTime()
        except libvirt.libvirtError as error:
            unusable = (
                error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE
            )
            return not (
                unusable and any(text in str(error) for text in _NO_CONNECTION)
            )
        finally:
            self._handle.agentSetResponseTimeout(
                libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0
            )
        return True

    def answers(self) -> bool:
        """Whether an agent answers in the channel, past libvirt's own agent.

        For a channel that libvirt takes for disconnected: QEMU serves one
        client at a time. Source: ``virDomainOpenChannel``.
        """
        stream = self._handle.connect().newStream(libvirt.VIR_STREAM_NONBLOCK)
        try:
            self._handle.openChannel(AGENT_CHANNEL, stream, 0)
            stream.send(_question())
            return _says_anything(stream)
        finally:
            with contextlib.suppress(
                libvirt.libvirtError, exception.HypervisorSilent
            ):
                stream.abort()


def _question() -> bytes:
    """A command that every agent answers, with a number of ours.

    Source: ``guest-sync`` in qga/qapi-schema.json
    """
    command = {
        'execute': 'guest-sync',
        'arguments': {'id': secrets.randbits(31)},
    }
    return json.dumps(command).encode() + b'\n'


def _says_anything(stream: LibvirtObject) -> bool:
    received: int | bytes = _NOTHING_YET

    def has_come() -> bool:
        nonlocal received
        received = stream.recv(1)
        return bool(received != _NOTHING_YET)

    wait.holds_within(has_come, ANSWER_TIMEOUT, interval=ANSWER_INTERVAL)
    # Nothing but the end of a stream is empty.
    return received not in (_NOTHING_YET, b'')
