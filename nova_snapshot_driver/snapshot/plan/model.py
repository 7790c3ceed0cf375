# SPDX-License-Identifier: Apache-2.0
"""The model of a plan: methods, obstacles and the decisions."""

from __future__ import annotations

import dataclasses
import enum

from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.transfer.formats.encoding import Encoding

IMAGE_FORMATS = ('raw', 'qcow2', 'vmdk', 'vdi')


AT_REST = (PowerState.SHUT_OFF, PowerState.SUSPENDED)


class Method(enum.Enum):
    """The methods of capturing disks at one instant."""

    DIRECT = 'direct'
    BACKUP = 'backup'
    MIRROR = 'mirror'
    COLD = 'cold'
    #: No view is read: Cinder has the disks, and keeps their snapshots.
    VOLUMES = 'volumes'


#: The methods that may be forced. VOLUMES depends on the disk alone.
OF_A_DISK = (Method.BACKUP, Method.MIRROR, Method.COLD)


class Pause(enum.Enum):
    """Whether the vCPUs are stopped while volumes get their snapshots."""

    ALWAYS = 'always'
    UNLESS_QUIESCED = 'unless quiesced'
    NEVER = 'never'


@dataclasses.dataclass(frozen=True)
class Obstacles:
    """The capabilities that are missing here, each with the reason, or None.

    :ivar backup: a backup job
    :ivar stream: an image in one pass, without a temporary file
    :ivar direct: an image that is made inside Ceph
    """

    backup: Ground | None = None
    stream: str | None = None
    direct: Ground | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of one snapshot.

    :ivar power_state: the state in which the guest is given back
    :ivar source: the topmost image of the root disk
    :ivar disk_size: of the root disk, in bytes; None before anybody has
        looked
    :ivar encoding: of the image in Glance
    :ivar stream: the image is made in one pass, and never lies on this host
    :ivar freeze: the guest's file systems are to be frozen
    :ivar quiesce_required: the snapshot fails where that can't be done
    """

    method: Method
    method_reason: Ground
    power_state: PowerState
    disk: Disk
    source: Layer
    encoding: Encoding
    format_reason: str
    stream: bool
    stream_reason: str
    freeze: bool
    quiesce_reason: Ground
    quiesce_required: bool
    disk_size: int | None = None

    @property
    def suspends(self) -> bool:
        """Whether the guest is suspended while its disk is read."""
        return self.method is Method.COLD and self.power_state not in AT_REST

    def __str__(self) -> str:
        freeze = 'quiesced' if self.freeze else 'not quiesced'
        transfer = 'streamed' if self.stream else 'converted'
        if self.method is Method.DIRECT:
            transfer = 'cloned'
        return (
            f'{self.method.value} ({self.method_reason}), '
            f'{self.encoding} ({self.format_reason}), '
            f'{transfer} ({self.stream_reason}), '
            f'{freeze} ({self.quiesce_reason})'
        )


@dataclasses.dataclass(frozen=True)
class VolumesPlan:
    """The plan for a guest whose root disk is a volume.

    The fields are those of ``Plan``.

    :ivar pause: the vCPUs of the guest are to be stopped
    """

    method: Method
    method_reason: Ground
    power_state: PowerState
    freeze: bool
    quiesce_reason: Ground
    quiesce_required: bool
    pause: Pause
    pause_reason: Ground

    def __str__(self) -> str:
        freeze = 'quiesced' if self.freeze else 'not quiesced'
        pause = {
            Pause.ALWAYS: 'paused',
            Pause.UNLESS_QUIESCED: 'paused unless quiesced',
            Pause.NEVER: 'not paused',
        }[self.pause]
        return (
            f'{self.method.value} ({self.method_reason}), '
            f'{freeze} ({self.quiesce_reason}), '
            f'{pause} ({self.pause_reason})'
        )


#: The plan of any snapshot.
AnyPlan = Plan | VolumesPlan
