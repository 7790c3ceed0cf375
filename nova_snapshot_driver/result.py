# SPDX-License-Identifier: Apache-2.0
"""What is known of a snapshot that has succeeded."""

from __future__ import annotations

import dataclasses
import time

from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.plan import Path
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.plan import VolumesPlan
from nova_snapshot_driver.quiesce import Quiesce
from nova_snapshot_driver.stillness import Stillness
from nova_snapshot_driver.target import Proof
from nova_snapshot_driver.volumes import DISK_FORMAT


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A snapshot that has succeeded.

    :ivar streamed: the image has never lain on this host
    :ivar size: of the image, in bytes
    :ivar sha512: of its bytes, as Glance has it too; None for a file
    :ivar seconds: how long each step took
    :ivar volumes: the snapshots in Cinder that it is made of, by the volumes
    :ivar paused: the vCPUs were stopped while the volumes were cut; None
        where there are none, as the next one
    :ivar still_seconds: how long the guest stood still: frozen, paused or
        suspended
    """

    domain: str
    uuid: str
    method: str
    method_reason: str
    streamed: bool
    streamed_reason: str
    quiesced: bool
    quiesced_reason: str
    disk_format: str
    size: int
    sha512: str | None
    seconds: dict[str, float]
    volumes: dict[str, str] = dataclasses.field(default_factory=dict)
    paused: bool | None = None
    paused_reason: str | None = None
    still_seconds: float = 0.0

    @property
    def total_seconds(self) -> float:
        return round(sum(self.seconds.values()), 3)

    @classmethod
    def of(
        cls,
        guest: Guest,
        plan: Plan,
        quiesce: Quiesce,
        proof: Proof,
        seconds: dict[str, float],
    ) -> Snapshot:
        return cls(
            domain=guest.name,
            uuid=guest.uuid,
            method=plan.path.value,
            method_reason=plan.path_reason,
            streamed=plan.stream,
            streamed_reason=plan.stream_reason,
            quiesced=quiesce.done,
            quiesced_reason=quiesce.reason,
            disk_format=plan.encoding.format,
            size=proof.size,
            sha512=proof.sha512,
            seconds=seconds,
            still_seconds=_still(plan, quiesce, seconds),
        )

    @classmethod
    def of_volumes(
        cls,
        guest: Guest,
        plan: VolumesPlan,
        quiesce: Quiesce,
        stillness: Stillness,
        volumes: dict[str, str],
        seconds: dict[str, float],
    ) -> Snapshot:
        return cls(
            domain=guest.name,
            uuid=guest.uuid,
            method=plan.path.value,
            method_reason=plan.path_reason,
            streamed=False,
            streamed_reason='there is nothing to be sent',
            quiesced=quiesce.done,
            quiesced_reason=quiesce.reason,
            disk_format=DISK_FORMAT,
            size=0,
            sha512=None,
            seconds=seconds,
            volumes=volumes,
            paused=stillness.paused,
            paused_reason=stillness.reason,
            still_seconds=stillness.seconds,
        )

    def __str__(self) -> str:
        if self.volumes:
            return self._of_volumes()
        quiesced = 'quiesced' if self.quiesced else 'not quiesced'
        streamed = 'streamed' if self.streamed else 'converted'
        if self.method == Path.DIRECT.value:
            streamed = 'cloned'
        return (
            f'{self.method}, {streamed}, {quiesced} ({self.quiesced_reason}), '
            f'{self.disk_format}, {self.size} bytes, '
            f'{self._in_steps()}, '
            f'SHA-512 {self.sha512 or "not asked for"}'
        )

    def _of_volumes(self) -> str:
        quiesced = 'quiesced' if self.quiesced else 'not quiesced'
        paused = 'paused' if self.paused else 'not paused'
        return (
            f'{self.method}, {len(self.volumes)} of them, {quiesced} '
            f'({self.quiesced_reason}), {paused} ({self.paused_reason}), '
            f'still for {self.still_seconds:.3f} s, {self._in_steps()}'
        )

    def _in_steps(self) -> str:
        steps = ', '.join(
            f'{step} {seconds:.1f}' for step, seconds in self.seconds.items()
        )
        return f'{self.total_seconds:.1f} s ({steps})'


def _still(plan: Plan, quiesce: Quiesce, seconds: dict[str, float]) -> float:
    if plan.path is Path.COLD and plan.power_state is PowerState.RUNNING:
        # It is suspended from the first step to the last that needs it.
        return round(
            sum(
                seconds[step]
                for step in ('capture', 'extract', 'stream', 'give_back')
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
