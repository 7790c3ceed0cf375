# SPDX-License-Identifier: Apache-2.0
"""Jobs outside of a snapshot."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from typing import TypeVar

from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.data_plane import Limits
from nova_snapshot_driver.transfer.jobs.job import Job
from nova_snapshot_driver.transfer.settings import TransferSettings

T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Worker:
    """Does jobs, with what a command has given to it."""

    settings: TransferSettings
    progress: Progress
    cancellation: Cancellation

    def run(self, build: Callable[[str], Job[T]]) -> T:
        """Do a job.

        :param build: makes the job, with a directory of its own
        """
        with tempfile.TemporaryDirectory() as directory:
            job = build(directory)
            return data_plane.run(
                job,
                Limits.of(self.settings, type(job)),
                self.progress,
                self.cancellation,
            )
