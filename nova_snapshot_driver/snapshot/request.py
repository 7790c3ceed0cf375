# SPDX-License-Identifier: Apache-2.0
"""The request for a snapshot, as a door makes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.snapshot.destination.base import Destination
from nova_snapshot_driver.snapshot.plan.instance import Instance

# The task states of nova.compute.task_states.
IMAGE_PENDING_UPLOAD = 'image_pending_upload'
IMAGE_UPLOADING = 'image_uploading'


class TaskStates:
    """The task states that Nova shows during a snapshot, in Nova's order.

    :param update: called with ``task_state`` and, from the second time on,
        ``expected_state``
    """

    def __init__(self, update: Callable[..., Any]) -> None:
        self._update = update
        self._is_pending = False

    def pending_upload(self) -> None:
        """Report the upload that comes, once for all methods tried."""
        if not self._is_pending:
            self._update(task_state=IMAGE_PENDING_UPLOAD)
            self._is_pending = True

    def uploading(self) -> None:
        """Report that bytes of the image leave the host from now on."""
        self._update(
            task_state=IMAGE_UPLOADING, expected_state=IMAGE_PENDING_UPLOAD
        )


@dataclasses.dataclass(frozen=True)
class Request:
    """A snapshot that is wanted.

    :ivar destination: which takes an image of each disk
    :ivar context: of the request to Nova; None where there was none
    :ivar disks: the names of the disks in the domain, as ``vda``; none for
        the root disk alone
    """

    instance: Instance
    destination: Destination
    states: TaskStates
    progress: Progress
    cancellation: Cancellation
    context: Context | None = None
    disks: tuple[str, ...] = ()
