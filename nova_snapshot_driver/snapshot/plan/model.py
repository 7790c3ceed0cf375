# SPDX-License-Identifier: Apache-2.0
"""The model of a plan: methods, obstacles and the decisions."""

from __future__ import annotations

import dataclasses
import enum

from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.snapshot.plan.increment import Increment
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
    :ivar tracking: a bitmap of what changes on a disk
    :ivar hashes: those of the snapshot before
    """

    backup: Ground | None = None
    stream: str | None = None
    direct: Ground | None = None
    tracking: Ground | None = None
    hashes: Ground | None = None


@dataclasses.dataclass(frozen=True)
class PlannedDisk:
    """A disk of a snapshot, and the image that it becomes.

    :ivar source: the topmost image of the disk
    :ivar encoding: of the image that it becomes
    :ivar size: of the disk, in bytes; None before anybody has looked
    """

    disk: Disk
    source: Layer
    encoding: Encoding
    format_reason: str
    size: int | None = None

    @property
    def target(self) -> str:
        """The name of the disk in the domain, as ``vda``."""
        return self.disk.target


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of one snapshot.

    :ivar power_state: the state in which the guest is given back
    :ivar disks: that are captured at one instant
    :ivar stream: the images are made in one pass, and never lie on this host
    :ivar freeze: the guest's file systems are to be frozen
    :ivar quiesce_required: the snapshot fails where that can't be done
    :ivar increment: how the only disk builds on the snapshot before; None for
        images that stand alone
    """

    method: Method
    method_reason: Ground
    power_state: PowerState
    disks: tuple[PlannedDisk, ...]
    stream: bool
    stream_reason: str
    freeze: bool
    quiesce_reason: Ground
    quiesce_required: bool
    increment: Increment | None = None

    @property
    def suspends(self) -> bool:
        """Whether the guest is suspended while its disks are read."""
        return self.method is Method.COLD and self.power_state not in AT_REST

    def __str__(self) -> str:
        freeze = 'quiesced' if self.freeze else 'not quiesced'
        transfer = 'streamed' if self.stream else 'converted'
        if self.method is Method.DIRECT:
            transfer = 'cloned'
        return (
            f'{self.method.value} ({self.method_reason}), '
            f'{self._images()}, '
            f'{transfer} ({self.stream_reason}), '
            f'{freeze} ({self.quiesce_reason})'
        )

    def _images(self) -> str:
        if self.increment is not None:
            return str(self.increment)
        if len(self.disks) == 1:
            return f'{self.disks[0].encoding} ({self.disks[0].format_reason})'
        return ', '.join(
            f'{each.target}: {each.encoding} ({each.format_reason})'
            for each in self.disks
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
