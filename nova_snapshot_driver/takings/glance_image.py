# SPDX-License-Identifier: Apache-2.0
"""An image in Glance that is not complete yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import glance
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.takings.cinder_snapshots import CinderSnapshots
from nova_snapshot_driver.takings.left_behind import image_left_behind
from nova_snapshot_driver.takings.left_behind import require_sight
from nova_snapshot_driver.takings.shadow_volume import ShadowVolume
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.tools import UndoTools

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class UnfinishedImage(Taking):
    """
    :ivar image: its id
    :ivar project: that it belongs to; None where nobody knows
    """

    image: str
    project: str | None = None

    KIND = 'image'
    WHOSE = Whose.IMAGE
    AFTER = frozenset({CinderSnapshots.KIND, ShadowVolume.KIND})
    NEEDS_GLANCE = True

    def describe(self) -> str:
        return f'delete image {self.image}, unless it is complete'

    def state(self) -> str:
        return f'image {self.image}'

    def undo(self, tools: UndoTools) -> None:
        """Delete it, unless it is complete, which it may be by now.

        :raises ImageLeftBehind: it is not known to be deleted
        """
        cloud = require_sight(tools.cloud, self.image, self.project)
        try:
            tools.is_complete[self.image] = glance.discard_unfinished(
                Glance(cloud.glance_access()), self.image
            )
        except exception.SnapshotError as error:
            raise image_left_behind(self.image, error) from error
        LOG.warning(
            'Image %s of a snapshot that died is gone, or was complete',
            self.image,
        )


def discard(
    connect: Callable[[], Glance], image: str, cause: BaseException
) -> None:
    """Delete the image of a snapshot that has failed, however far it came.

    :param connect: the way to Glance, with a token that is valid now
    :param cause: of the failure
    :raises ImageLeftBehind: it is not known to be deleted
    """
    try:
        connect().delete(image)
    except exception.SnapshotError as error:
        raise image_left_behind(image, error, cause) from cause
