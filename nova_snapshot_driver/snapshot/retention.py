# SPDX-License-Identifier: Apache-2.0
"""The end of shadow volumes whose servers are deleted.

The snapshots of one outlive its server, as images do. It goes with the last of
them, and at once where there is none.
"""

from __future__ import annotations

from collections.abc import Callable

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import cinder
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.cinder import Volume
from nova_snapshot_driver.clients.cinder_volumes import CinderVolumes
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.snapshot.destination.settings import (
    DestinationSettings,
)
from nova_snapshot_driver.state.ledger import Ledger
from nova_snapshot_driver.takings import cinder_snapshots
from nova_snapshot_driver.takings import shadow_volume

LOG = logging.getLogger(__name__)


def disk_is_deleted(settings: DestinationSettings, server: str) -> None:
    """Note that this host has no disk of a server any more.

    :raises DirectoryUnusable: it can't be noted
    """
    if Ledger(settings.state_directory).bury(server):
        LOG.info('The snapshots in Cinder of server %s outlive it', server)


def sweep(
    settings: DestinationSettings,
    context: Context,
    lives: Callable[[str], bool],
) -> None:
    """Delete what nobody needs of the servers of this host that are deleted.

    :param context: of an administrator, who sees what any project has
    :param lives: whether there is a server of an id, here or elsewhere: its
        disk may have been migrated, or built anew
    :raises SnapshotError: it was broken off, and the next one goes on
    """
    ledger = Ledger(settings.state_directory)
    buried = ledger.buried()
    if not buried:
        return
    if not context.sees(None):
        LOG.warning(
            'The snapshots in Cinder of %d deleted servers are left alone: '
            'the service user of Nova has no role admin, and would take the '
            'images of others for deleted',
            len(buried),
        )
        return
    for server in buried:
        if lives(server) or _is_swept(context, server):
            ledger.forget(server)


def _is_swept(context: Context, server: str) -> bool:
    """Delete what nobody needs of one server; whether nothing is left."""
    connection = CinderVolumes(context.cinder_access())
    glance = Glance(context.glance_access())
    volumes = connection.volumes_with(
        {shadow_volume.OF: server}, everywhere=True
    )
    # Each of them is looked after, whatever is left of another.
    left = [
        volume
        for volume in volumes
        if not _is_gone(connection, glance, volume)
    ]
    return not left


def _is_gone(
    connection: CinderVolumes, glance: Glance, volume: Volume
) -> bool:
    """Go on with the deletion of a volume; whether it is gone."""
    snapshots = connection.snapshots_of(volume.id)
    for snapshot in snapshots:
        image = snapshot.metadata.get(cinder_snapshots.MARK)
        # A snapshot without the mark is that of a stranger.
        if image is not None and not _exists(glance, image):
            cinder_snapshots.delete(connection, snapshot)
    if not snapshots and volume.status == cinder.AVAILABLE:
        LOG.info('Volume %s has no snapshot, and is deleted', volume.id)
        connection.delete_volume(volume.id)
    return False


def _exists(glance: Glance, image: str) -> bool:
    try:
        glance.get(image)
    except exception.ImageNotFound:
        return False
    return True
