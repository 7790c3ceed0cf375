# SPDX-License-Identifier: Apache-2.0
"""What a door asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.progress import Progress
from nova_snapshot_driver.target import Target

# The task states of nova.compute.task_states.
IMAGE_PENDING_UPLOAD = 'image_pending_upload'
IMAGE_UPLOADING = 'image_uploading'


class TaskStates:
    """The states that Nova shows of a snapshot, in its own order.

    :param update: called with ``task_state`` and, from the second time on,
        ``expected_state``
    """

    def __init__(self, update: Callable[..., Any]) -> None:
        self._update = update
        self._is_pending = False

    def pending_upload(self) -> None:
        """The snapshot begins, and may do so by a second path."""
        if not self._is_pending:
            self._update(task_state=IMAGE_PENDING_UPLOAD)
            self._is_pending = True

    def uploading(self) -> None:
        """Bytes of the image leave the host from now on."""
        self._update(
            task_state=IMAGE_UPLOADING, expected_state=IMAGE_PENDING_UPLOAD
        )


@dataclasses.dataclass(frozen=True)
class Request:
    """One snapshot that is wanted."""

    instance: Instance
    target: Target
    states: TaskStates
    progress: Progress
    cancellation: Cancellation
