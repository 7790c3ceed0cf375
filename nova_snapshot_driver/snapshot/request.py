# SPDX-License-Identifier: Apache-2.0
"""The request for a snapshot, as a door makes it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.snapshot.destination.base import Destination
from nova_snapshot_driver.snapshot.plan.instance import Instance

# The task states of nova.compute.task_states.
IMAGE_PENDING_UPLOAD = 'image_pending_upload'
IMAGE_UPLOADING = 'image_uploading'

#: The key in the metadata of a field by which a request asks for what Nova's
#: own driver would pass over; its value is that wish, in words.
BEYOND_NOVA = 'beyond_nova'


class TaskStates:
    """The task states that Nova shows during a snapshot, in Nova's order.

    :param update: called with ``task_state`` and, from the second time on,
        ``expected_state``
    """

    def __init__(self, update: Callable[..., Any]) -> None:
        self._update = update
        self._is_pending = False
        self._is_uploading = False

    def pending_upload(self) -> None:
        """Report the upload that comes, once for all methods tried."""
        if not self._is_pending:
            self._update(task_state=IMAGE_PENDING_UPLOAD)
            self._is_pending = True

    def uploading(self) -> None:
        """Report, once, that bytes of the image leave the host from now on."""
        if not self._is_uploading:
            self._update(
                task_state=IMAGE_UPLOADING,
                expected_state=IMAGE_PENDING_UPLOAD,
            )
            self._is_uploading = True


@dataclasses.dataclass(frozen=True)
class Request:
    """A snapshot that is wanted.

    :ivar destination: which takes an image of each disk
    :ivar context: of the request to Nova; None where there was none
    :ivar disks: the names of the disks in the domain, as ``vda``; none for
        the root disk alone
    """

    # Nova's own driver takes the snapshot that the fields without BEYOND_NOVA
    # ask for. One that asks for another snapshot has a default, and says so.

    instance: Instance
    destination: Destination
    states: TaskStates
    progress: Progress
    cancellation: Cancellation
    context: Context | None = None
    disks: tuple[str, ...] = dataclasses.field(
        default=(), metadata={BEYOND_NOVA: 'the disks {}'}
    )

    @property
    def wishes(self) -> list[str]:
        """The parts that Nova's own driver would pass over, in words."""
        wish = self.destination.wish
        return [
            *([] if wish is None else [wish]),
            *(
                field.metadata[BEYOND_NOVA].format(_text(value))
                for field in dataclasses.fields(self)
                if BEYOND_NOVA in field.metadata
                and (value := getattr(self, field.name)) != field.default
            ),
        ]

    @contextlib.contextmanager
    def refused_as_asked(self) -> Iterator[None]:
        """Let no refusal lead to a snapshot that nobody has asked for.

        ``NotSupported`` is how a door hears that Nova's own driver may take
        the snapshot.

        :raises RequestNotSupported: in its place, where that driver would pass
            over a part of the request
        """
        try:
            yield
        except exception.NotSupported as refusal:
            if not self.wishes:
                raise
            raise exception.RequestNotSupported(
                domain=refusal.fields['domain'],
                wishes=' and '.join(self.wishes),
                reason=refusal.fields['reason'],
            ) from refusal


def _text(value: object) -> str:
    return ', '.join(value) if isinstance(value, tuple) else str(value)
