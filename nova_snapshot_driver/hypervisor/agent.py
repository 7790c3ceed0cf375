# SPDX-License-Identifier: Apache-2.0
"""The guest agent: a process inside that freezes the file systems."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.hypervisor.agent_channel import AgentChannel
from nova_snapshot_driver.hypervisor.bindings import libvirt
from nova_snapshot_driver.hypervisor.libvirt_domain import LibvirtDomain
from nova_snapshot_driver.hypervisor.libvirt_errors import is_answer_of_agent
from nova_snapshot_driver.hypervisor.libvirt_errors import is_refusal_of_agent


class Agent:
    """The agent of one guest."""

    def __init__(self, domain: LibvirtDomain) -> None:
        self._domain = domain

    @contextlib.contextmanager
    def response_timeout(self, seconds: int) -> Iterator[None]:
        """Bound every answer of the agent; libvirt itself waits for ever."""
        with self._domain.calling('set the timeout of the agent') as handle:
            handle.agentSetResponseTimeout(seconds, 0)
        try:
            yield
        finally:
            with (
                undo.under_way(),
                contextlib.suppress(
                    exception.DomainNotFound,
                    exception.HypervisorError,
                    exception.HypervisorSilent,
                ),
                self._domain.calling(
                    'lift the timeout of the agent'
                ) as handle,
            ):
                handle.agentSetResponseTimeout(
                    libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0
                )

    def ping(self) -> None:
        """See that the agent answers.

        libvirt's API has no command for that alone: the agent is asked for the
        time (``virDomainGetTime``). An agent that may not tell is alive too.
        So is one that says to be frozen: after its first freeze an agent gives
        that as the reason for each command which it must not execute.

        :raises HypervisorError: it does not answer
        """
        with self._domain.calling('ask the guest agent') as handle:
            try:
                handle.getTime()
            except libvirt.libvirtError as error:
                if not is_answer_of_agent(error):
                    raise

    def count_file_systems(self) -> int:
        """How many the agent has mounted from disks (``virDomainGetFSInfo``).

        :raises HypervisorError: it does not tell
        """
        with self._domain.calling('ask for the file systems') as handle:
            return len(handle.fsInfo())

    def freeze(self) -> int:
        """Freeze the file systems (``virDomainFSFreeze``).

        :returns: how many file systems are frozen
        :raises AgentRefused: the agent may not, for example since somebody
            else has frozen them; it has not begun to
        :raises HypervisorError: it has failed, or has not answered in time
        """
        operation = 'freeze the file systems'
        with self._domain.calling(operation) as handle:
            try:
                return int(handle.fsFreeze())
            except libvirt.libvirtError as error:
                if not is_refusal_of_agent(error):
                    raise
                raise exception.AgentRefused(
                    domain=self._domain.name,
                    operation=operation,
                    reason=error.get_error_message(),
                ) from error

    def thaw(self) -> int:
        """
        :returns: how many file systems were frozen still
        """
        with self._domain.calling('thaw the file systems') as handle:
            return int(handle.fsThaw())

    def is_lost(self) -> bool:
        """Whether an agent runs in the guest that libvirt does not reach.

        A guest that is not active has no agent to be lost.
        """
        described = self._domain.describe()
        if described.agent_device is None or not self._domain.is_active():
            return False
        with self._domain.calling('look for the guest agent') as handle:
            channel = AgentChannel(handle)
            if described.agent_connected:
                return not channel.is_open()
            return channel.answers()
