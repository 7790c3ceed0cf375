# SPDX-License-Identifier: Apache-2.0
"""The cost of one snapshot."""

import dataclasses
from typing import Any
from typing import Self

from bench.processes import Usage


@dataclasses.dataclass(frozen=True)
class Sample:
    """The cost of one snapshot; sizes are bytes, times seconds."""

    #: the subject, such as ``4 GiB``
    subject: str
    way: str
    round: int
    #: from the request to the active image
    wall: float
    #: of the image
    size: int
    #: at its peak
    temporary: int = 0
    #: by the guest meanwhile
    overwritten: int = 0
    #: the longest silence of the guest
    stall: float = 0.0
    #: the longest silence of the guest before, without a snapshot
    idle_stall: float = 0.0
    #: for how long the domain was not in the state it had before
    away: float = 0.0
    #: of the data plane with its children, at its peak
    memory: int = 0
    #: by the group of processes
    usage: dict[str, Usage] = dataclasses.field(default_factory=dict)

    @property
    def on_host(self) -> Usage:
        """The use by the compute host, without Glance."""
        return sum(
            (self.usage.get(group, Usage()) for group in HOST_GROUPS), Usage()
        )

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        usage = {
            group: Usage(**values)
            for group, values in content['usage'].items()
        }
        return cls(**{**content, 'usage': usage})


QEMU = 'qemu'
COMPUTE = 'nova-compute'
LIBVIRTD = 'libvirtd'
GLANCE = 'glance'
DATA_PLANE = 'data plane'
QEMU_IMG = 'qemu-img'

#: The groups of processes that take part on the compute host.
HOST_GROUPS = (QEMU, COMPUTE, LIBVIRTD)
#: The parts of nova-compute, which are counted there, too.
PARTS = (DATA_PLANE, QEMU_IMG)
