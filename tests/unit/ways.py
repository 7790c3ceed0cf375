# SPDX-License-Identifier: Apache-2.0
"""Guests of all kinds, and how they are snapshotted."""

from __future__ import annotations

import dataclasses

import libvirt

from tests.unit import documents
from tests.unit.fake_libvirt import Agent
from tests.unit.host import DEVICES
from tests.unit.host import RBD_DEVICES
from tests.unit.host import FakeHost

TWO_DEVICES = documents.PCI_DEVICE + documents.SRIOV_INTERFACE


@dataclasses.dataclass(frozen=True)
class Way:
    """A guest, and how it is snapshotted."""

    path: str = 'auto'
    quiesce: str = 'auto'
    devices: str = DEVICES
    agent: Agent = Agent.ANSWERS
    state: int = libvirt.VIR_DOMAIN_RUNNING

    def host(self) -> FakeHost:
        return FakeHost(self.devices, self.agent, self.state)

    def prepare(self, host: FakeHost) -> None:
        host.set('snapshot', 'method', self.path)
        # Whether a guest lets a device go can only be waited for.
        host.bound_guest_waits(1)
        host.set('snapshot', 'quiesce', self.quiesce)


LIVE = {
    'backup': Way(),
    'backup_required': Way(quiesce='require'),
    'backup_no_agent': Way(agent=Agent.ABSENT),
    'mirror': Way('mirror'),
}

COLD = {
    'cold': Way('cold'),
    'cold_paused': Way('cold', state=libvirt.VIR_DOMAIN_PAUSED),
    'cold_device': Way('cold', devices=DEVICES + documents.PCI_DEVICE),
    'cold_shut_off': Way(state=libvirt.VIR_DOMAIN_SHUTOFF),
}

WAYS = LIVE | COLD

#: The ways whose image lies on the host before its upload; others stream.
CONVERTED = {name: way for name, way in WAYS.items() if way.path != 'auto'}
STREAMED = {name: way for name, way in WAYS.items() if name not in CONVERTED}

#: The ways in which no byte comes to the host.
DIRECT = {
    'direct': Way(devices=RBD_DEVICES),
    'direct_shut_off': Way(
        devices=RBD_DEVICES, state=libvirt.VIR_DOMAIN_SHUTOFF
    ),
}

#: The ways that differ from another one in a few steps alone.
MORE_WAYS = {
    **DIRECT,
    'backup_mute_agent': Way(agent=Agent.HANGS),
    'backup_paused': Way(state=libvirt.VIR_DOMAIN_PAUSED),
    'mirror_required': Way('mirror', quiesce='require'),
    'mirror_no_agent': Way('mirror', agent=Agent.ABSENT),
    'mirror_mute_agent': Way('mirror', agent=Agent.HANGS),
    'cold_devices': Way('cold', devices=DEVICES + TWO_DEVICES),
}
