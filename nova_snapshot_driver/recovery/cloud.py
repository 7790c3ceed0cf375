# SPDX-License-Identifier: Apache-2.0
"""What a snapshot that died has left in the cloud."""

from __future__ import annotations

import contextlib

from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver import volumes
from nova_snapshot_driver.capture import direct
from nova_snapshot_driver.cinder import Cinder
from nova_snapshot_driver.context import Context
from nova_snapshot_driver.glance import Glance
from nova_snapshot_driver.glance import discard_unfinished
from nova_snapshot_driver.glance import is_complete
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.rbd import Ceph
from nova_snapshot_driver.rbd import Clone
from nova_snapshot_driver.recovery.undoing import Undoing

LOG = logging.getLogger(__name__)

#: How long a nova-compute that starts, or a snapshot that begins, tries to
#: delete the snapshots in Cinder of one that died, in seconds.
RECOVERY_PATIENCE = 30


class UnfinishedImage:
    """The image of a snapshot that died, and what it is made of.

    :param entry: of the snapshot
    :param context: in which it can be deleted; None where Glance is not asked
    """

    def __init__(
        self,
        entry: Entry,
        undoing: Undoing,
        conf: cfg.ConfigOpts,
        context: Context | None,
    ) -> None:
        self._entry = entry
        self._undoing = undoing
        self._conf = conf
        self._context = context
        self._is_complete = False

    def discard(self) -> None:
        """Delete it, unless it is complete, which it may be by now."""
        clone = self._entry.clone
        is_detached = clone is None or self._detach(clone)
        is_known = self._delete()
        is_removed = clone is None or self._remove(clone, is_known)
        # The clone of one that is not known any more would be nobody's.
        if is_detached and is_known and is_removed:
            self._undoing.is_undone(image=None, volumes=(), clone=None)

    def _detach(self, clone: Clone) -> bool:
        return self._undoing.undo(
            f'remove the snapshot {clone.disk}@{clone.snapshot}',
            lambda: _detach_clone(self._undoing.name, clone, self._conf),
        )

    def _remove(self, clone: Clone, is_known: bool) -> bool:
        """
        :param is_known: whether the image is complete
        """
        return self._undoing.undo(
            f'remove the clone {clone.image}, unless it is complete',
            lambda: _remove_clone(
                self._undoing.name, clone, is_known, self._conf
            ),
            lambda: not self._is_complete,
            needs_glance=True,
        )

    def _delete(self) -> bool:
        """
        :returns: whether it is gone, or is known to be complete
        """
        image = self._entry.image
        if image is None:
            return True

        def delete() -> None:
            self._is_complete = _discard(
                self._entry, image, self._context, self._conf
            )

        return self._undoing.undo(
            f'delete image {image}, unless it is complete',
            delete,
            needs_glance=True,
        )


def _detach_clone(domain: str, clone: Clone, conf: cfg.ConfigOpts) -> None:
    """Remove the snapshot of the disk, and a clone that still needs it.

    That one is not complete, and no image.
    """
    ceph = Ceph(conf, clone.disk.user)
    with contextlib.suppress(exception.CephNotFound, exception.CephDenied):
        parent = ceph.parent(clone.image)
        if parent is not None and parent[1] == clone.snapshot:
            direct.remove_clone(domain, ceph, clone)
    direct.remove_snapshot(domain, ceph, clone)


def _remove_clone(
    domain: str, clone: Clone, is_no_image: bool, conf: cfg.ConfigOpts
) -> None:
    """Remove a clone that is no image.

    :raises NotGivenBack: nobody knows whether it is one
    """
    if not is_no_image:
        raise exception.NotGivenBack(
            domain=domain,
            undo=f'remove the clone {clone.image} in Ceph',
            reason='nobody knows whether it is the data of an image',
            remedy='The next snapshot of the domain, or start of '
            'nova-compute, at which Glance answers tries it again.',
        )
    direct.remove_clone(domain, Ceph(conf, clone.disk.user), clone)


def _discard(
    entry: Entry, image: str, context: Context | None, conf: cfg.ConfigOpts
) -> bool:
    """Delete an image that is not complete, and what it is made of.

    :returns: whether it is active
    :raises ImageLeftBehind: it is not known to be deleted
    """
    if context is None:
        reason = 'Glance is not asked here'
    else:
        try:
            is_active = _discarded(entry, image, context, conf)
        except exception.SnapshotError as error:
            reason = str(error).rstrip('.')
        else:
            LOG.warning(
                'Image %s of a snapshot that died is gone, or was complete',
                image,
            )
            return is_active
    raise exception.ImageLeftBehind(
        image=image, cause='it died', reason=reason
    )


def _discarded(
    entry: Entry, image: str, context: Context, conf: cfg.ConfigOpts
) -> bool:
    glance = Glance(context.glance_access())
    # One that is complete is somebody's, with all that it maps.
    if entry.volumes and not is_complete(glance, image):
        volumes.discard(
            lambda: Cinder(context.cinder_access()),
            image,
            entry.volumes,
            min(conf.snapshot.volume_timeout, RECOVERY_PATIENCE),
            # What it has asked for may not have been made yet.
            late=volumes.LATE_REQUEST,
            cause='it died',
        )
    return discard_unfinished(glance, image)
