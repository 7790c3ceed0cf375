# SPDX-License-Identifier: Apache-2.0
"""Ways to a view of a disk at one instant.

Each is a context manager: entering it makes the view, leaving it gives the
guest back exactly as it was found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from oslo_config import cfg

from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.progress import Progress
from nova_snapshot_driver.quiesce import Quiesce
from nova_snapshot_driver.rbd import Clone
from nova_snapshot_driver.surroundings import Surroundings
from nova_snapshot_driver.view import View
from nova_snapshot_driver.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class Means:
    """What a capture works with.

    :ivar disowned: whether the domain's owner has begun to destroy it, so
        that it must not be defined again
    :ivar clone: what is to be made in Ceph, if anything is
    """

    conf: cfg.ConfigOpts
    workspace: Workspace
    quiesce: Quiesce
    surroundings: Surroundings
    progress: Progress
    cancellation: Cancellation
    disowned: Callable[[], bool] = lambda: False
    clone: Clone | None = None


class Capture(Protocol):
    """One way to a view."""

    def __call__(
        self, guest: Guest, plan: Plan, means: Means
    ) -> AbstractContextManager[View | Clone]:
        """
        :returns: the view, readable inside the context; or what Ceph is to
            make of it there
        """
