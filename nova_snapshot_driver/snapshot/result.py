# SPDX-License-Identifier: Apache-2.0
"""The result of a snapshot that has succeeded."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot.capture.pause import Stall
from nova_snapshot_driver.snapshot.capture.quiesce import Quiesce
from nova_snapshot_driver.snapshot.destination.base import IncrementProof
from nova_snapshot_driver.snapshot.destination.base import Proof
from nova_snapshot_driver.snapshot.destination.mapped_image import DISK_FORMAT
from nova_snapshot_driver.snapshot.plan.model import Method
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.snapshot.plan.model import VolumesPlan


@dataclasses.dataclass(frozen=True)
class TakenDisk:
    """A disk that was taken, and the image that it became.

    :ivar disk: its name in the domain, as ``vda``; None where volumes were
        taken, as the next two
    :ivar disk_size: the size of the disk in bytes, as the guest sees it
    :ivar source_format: the format of the topmost image of the disk
    :ivar disk_format: of the image
    :ivar size: of the image, in bytes
    :ivar sha512: of the bytes of the image, as Glance has it too; None for a
        file
    :ivar increment: what it builds on; None of an image that stands alone
    """

    disk: str | None
    disk_size: int | None
    source_format: str | None
    disk_format: str
    size: int
    sha512: str | None
    increment: IncrementProof | None = None

    @classmethod
    def of(cls, planned: PlannedDisk, proof: Proof) -> TakenDisk:
        return cls(
            disk=planned.target,
            disk_size=planned.size,
            source_format=planned.disk.format,
            disk_format=planned.encoding.format,
            size=proof.size,
            sha512=proof.sha512,
            increment=proof.increment,
        )

    def source(self) -> str:
        """The disk, in words."""
        return f'{self.disk} ({self.source_format}, {self.disk_size} bytes)'


#: An image of volumes has no data.
_OF_VOLUMES = TakenDisk(None, None, None, DISK_FORMAT, 0, None)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A snapshot that has succeeded.

    :ivar disks: with the image of each; none where volumes were taken
    :ivar streamed: the images have never lain on this host
    :ivar quiesced_file_systems: how many the guest agent had frozen
    :ivar seconds: how long each step took
    :ivar volumes: the snapshots in Cinder that it is made of, by the volumes
    :ivar paused: the vCPUs were stopped while the snapshots of the volumes
        were created; None where there are none, as the next one
    :ivar stall_seconds: how long the guest stood still: frozen, paused or
        suspended
    :ivar notes: what became of the guest afterwards that somebody is to know,
        a sentence or more each
    :ivar unfinished: something of the guest is still to be given back, though
        the image is complete
    :ivar properties_dropped: the names of the optional properties that Glance
        has refused, and the image lacks
    """

    domain: str
    uuid: str
    method: str
    method_reason: str
    streamed: bool
    streamed_reason: str
    quiesced: bool
    quiesced_reason: str
    disks: tuple[TakenDisk, ...]
    seconds: dict[str, float]
    volumes: dict[str, str] = dataclasses.field(default_factory=dict)
    paused: bool | None = None
    paused_reason: str | None = None
    stall_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    unfinished: bool = False
    quiesced_file_systems: int = 0
    properties_dropped: tuple[str, ...] = ()

    @property
    def total_seconds(self) -> float:
        return round(sum(self.seconds.values()), 3)

    @property
    def size(self) -> int:
        """The bytes of all images."""
        return sum(disk.size for disk in self.disks)

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON; those of a single disk stand at the top too."""
        fields = dataclasses.asdict(self)
        if self.volumes:
            fields |= dataclasses.asdict(_OF_VOLUMES)
        elif len(self.disks) == 1:
            fields |= fields['disks'][0]
        return fields

    @classmethod
    def of(
        cls,
        guest: Guest,
        plan: Plan,
        quiesce: Quiesce,
        proofs: Sequence[Proof],
        seconds: dict[str, float],
        notes: tuple[str, ...],
        unfinished: bool,
    ) -> Snapshot:
        return cls(
            domain=guest.name,
            uuid=guest.uuid,
            method=plan.method.value,
            method_reason=str(plan.method_reason),
            streamed=plan.stream,
            streamed_reason=plan.stream_reason,
            quiesced=quiesce.done,
            quiesced_reason=str(quiesce.reason),
            disks=tuple(map(TakenDisk.of, plan.disks, proofs)),
            seconds=seconds,
            stall_seconds=_still(plan, quiesce, seconds),
            notes=notes,
            unfinished=unfinished,
            quiesced_file_systems=quiesce.file_systems,
            properties_dropped=tuple(
                name for proof in proofs for name in proof.dropped
            ),
        )

    @classmethod
    def of_volumes(
        cls,
        guest: Guest,
        plan: VolumesPlan,
        quiesce: Quiesce,
        stall: Stall,
        volumes: dict[str, str],
        proof: Proof,
        seconds: dict[str, float],
    ) -> Snapshot:
        return cls(
            domain=guest.name,
            uuid=guest.uuid,
            method=plan.method.value,
            method_reason=str(plan.method_reason),
            streamed=False,
            streamed_reason='there is nothing to be sent',
            quiesced=quiesce.done,
            quiesced_reason=str(quiesce.reason),
            disks=(),
            seconds=seconds,
            volumes=volumes,
            paused=stall.paused,
            paused_reason=str(stall.reason),
            stall_seconds=stall.seconds,
            quiesced_file_systems=quiesce.file_systems,
            properties_dropped=proof.dropped,
        )

    def __str__(self) -> str:
        if self.volumes:
            return self._of_volumes()
        streamed = 'streamed' if self.streamed else 'converted'
        if self.method == Method.DIRECT.value:
            streamed = 'cloned'
        disks = ', '.join(disk.source() for disk in self.disks)
        images = ', '.join(
            f'{disk.disk_format}, {disk.size} bytes' for disk in self.disks
        )
        digests = ', '.join(
            disk.sha512 or 'not asked for' for disk in self.disks
        )
        return (
            f'{disks}, {self.method}, {streamed}, {self._quiesced()}, '
            f'{images}, {self._increments()}{self._in_steps()}, '
            f'SHA-512 {digests}{self._without()}'
        )

    def _increments(self) -> str:
        return ''.join(
            f'{disk.increment}, ' for disk in self.disks if disk.increment
        )

    def _of_volumes(self) -> str:
        paused = 'paused' if self.paused else 'not paused'
        return (
            f'{self.method}, {len(self.volumes)} of them, {self._quiesced()}, '
            f'{paused} ({self.paused_reason}), '
            f'still for {self.stall_seconds:.3f} s, {self._in_steps()}'
            f'{self._without()}'
        )

    def _quiesced(self) -> str:
        quiesced = 'quiesced' if self.quiesced else 'not quiesced'
        return f'{quiesced} ({self.quiesced_in_words})'

    @property
    def quiesced_in_words(self) -> str:
        """The quiesced file systems, or the reason why there are none."""
        if not self.quiesced:
            return self.quiesced_reason
        count = self.quiesced_file_systems
        return (
            f'{self.quiesced_reason}, {count} file '
            f'{"system" if count == 1 else "systems"}'
        )

    def _without(self) -> str:
        if not self.properties_dropped:
            return ''
        return f', without the properties {", ".join(self.properties_dropped)}'

    def _in_steps(self) -> str:
        steps = ', '.join(
            f'{step} {seconds:.1f}' for step, seconds in self.seconds.items()
        )
        return f'{self.total_seconds:.1f} s ({steps})'


def _still(plan: Plan, quiesce: Quiesce, seconds: dict[str, float]) -> float:
    if plan.method is Method.COLD and plan.power_state is PowerState.RUNNING:
        # A cold snapshot suspends the guest from its first step to its last.
        return round(
            sum(
                seconds[step]
                for step in (
                    'capture',
                    'extract',
                    'stream',
                    'increment',
                    'give_back',
                )
                if step in seconds
            ),
            3,
        )
    return quiesce.seconds


class Stopwatch:
    """
    :ivar laps: how long each step took, in seconds
    """

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
