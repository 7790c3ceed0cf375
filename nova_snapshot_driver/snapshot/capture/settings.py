# SPDX-License-Identifier: Apache-2.0
"""The settings of captures."""

from __future__ import annotations

import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class CaptureSettings:
    """The options that captures depend on.

    :ivar snapshots_directory: for temporary files
    :ivar scratch_directory: for scratch files, if they have another place
    :ivar scratch_reserve: bytes that a scratch file leaves to others
    :ivar shutdown_timeout: the seconds that a guest may take to shut down
    :ivar job_abort_timeout: the seconds that a job may take to end
    :ivar quiesce_timeout: the seconds in which the guest agent answers
    :ivar mirror_timeout: the seconds that the copy of a disk may take
    :ivar bandwidth: MiB a second of such a copy; 0 is no limit
    """

    snapshots_directory: str
    scratch_directory: str | None
    scratch_reserve: int
    shutdown_timeout: int
    job_abort_timeout: int
    quiesce_timeout: int
    mirror_timeout: int
    bandwidth: int

    @property
    def directories(self) -> tuple[str, ...]:
        """The directories of temporary files of a snapshot, by any method."""
        roots = {
            self.snapshots_directory,
            self.scratch_directory or self.snapshots_directory,
        }
        return tuple(sorted(os.path.abspath(root) for root in roots))
