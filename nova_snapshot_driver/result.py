# SPDX-License-Identifier: Apache-2.0
"""What is known of a snapshot that has succeeded."""

from __future__ import annotations

import dataclasses
import time

from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.plan import Path
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.quiesce import Quiesce
from nova_snapshot_driver.target import Proof


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A snapshot that has succeeded.

    :ivar streamed: the image has never lain on this host
    :ivar size: of the image, in bytes
    :ivar sha512: of its bytes, as Glance has it too; None for a file
    :ivar seconds: how long each step took
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
        )

    def __str__(self) -> str:
        quiesced = 'quiesced' if self.quiesced else 'not quiesced'
        streamed = 'streamed' if self.streamed else 'converted'
        if self.method == Path.DIRECT.value:
            streamed = 'cloned'
        steps = ', '.join(
            f'{step} {seconds:.1f}' for step, seconds in self.seconds.items()
        )
        return (
            f'{self.method}, {streamed}, {quiesced} ({self.quiesced_reason}), '
            f'{self.disk_format}, {self.size} bytes, '
            f'{sum(self.seconds.values()):.1f} s ({steps}), '
            f'SHA-512 {self.sha512 or "not asked for"}'
        )


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
