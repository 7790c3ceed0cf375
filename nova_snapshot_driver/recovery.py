# SPDX-License-Identifier: Apache-2.0
"""Undo what a dead snapshot left behind on a domain."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os

from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import events
from nova_snapshot_driver import exception
from nova_snapshot_driver import quiesce
from nova_snapshot_driver import volumes
from nova_snapshot_driver import workspace
from nova_snapshot_driver.capture import backup
from nova_snapshot_driver.capture import direct
from nova_snapshot_driver.cinder import Cinder
from nova_snapshot_driver.context import Context
from nova_snapshot_driver.events import Event
from nova_snapshot_driver.guest import Definition
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.host import Host
from nova_snapshot_driver.image import Glance
from nova_snapshot_driver.image import discard_unfinished
from nova_snapshot_driver.image import is_complete
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.journal import Journal
from nova_snapshot_driver.rbd import Ceph
from nova_snapshot_driver.rbd import Clone

LOG = logging.getLogger(__name__)

#: How long a nova-compute that starts, or a snapshot that begins, tries to
#: delete the snapshots in Cinder of one that died, in seconds.
RECOVERY_PATIENCE = 30


def find_guest(host: Host, journal: Journal, domain: str) -> Guest:
    """The guest of a domain, even of one that a dead snapshot has lost.

    :param domain: name or UUID
    :raises DomainNotFound: there is none, and there was none
    """
    try:
        return host.guest(domain)
    except exception.DomainNotFound:
        entry = journal.find(domain)
        if entry is None:
            raise
    uuid = entry.definition.uuid
    with journal.exclusive(uuid, entry.definition.name):
        # Another process may have come first.
        entry = journal.recall(uuid)
        if entry is not None and entry.persistent:
            LOG.warning(
                'Domain %s stopped while a snapshot that died had it '
                'transient; it is defined again',
                entry.definition.name,
            )
            host.define(entry.definition)
            # Its image is still there.
            journal.remember(dataclasses.replace(entry, persistent=False))
    return host.guest(domain)


def heal(
    guest: Guest,
    journal: Journal,
    conf: cfg.ConfigOpts,
    context: Context | None,
) -> bool:
    """Give a domain back as it was before a snapshot that died.

    To be called by the only snapshot of the domain.

    :param context: in which the image of that snapshot can be deleted
    :returns: there was one, and nothing of it is left
    :raises ForeignBlockJob: its root disk has a block job that is not ours
    :raises ForeignJob: it has a backup job that is not ours
    """
    directory = conf.libvirt.snapshots_directory
    # To libvirt it is a block job too.
    _end_abandoned_backup(guest, directory, conf.snapshot.guest_timeout)
    _end_abandoned_copy(guest, directory, conf.snapshot.guest_timeout)
    entry = journal.recall(guest.uuid)
    if entry is not None and not entry.is_given_back:
        events.tell(
            LOG.warning,
            Event.ABANDONED,
            f'Domain {guest.name}: a snapshot died before it had given it '
            'back',
            guest.uuid,
        )
        give_back(guest, entry, conf)
    return _finish(guest.uuid, entry, journal, conf, context)


def forget_lost(
    entry: Entry, journal: Journal, conf: cfg.ConfigOpts, context: Context
) -> None:
    """Clean up after a snapshot that died, of a domain that is gone too.

    :raises DomainBusy: the snapshot is alive
    """
    definition = entry.definition
    with journal.exclusive(definition.uuid, definition.name):
        _finish(definition.uuid, entry, journal, conf, context)


def _finish(
    uuid: str,
    entry: Entry | None,
    journal: Journal,
    conf: cfg.ConfigOpts,
    context: Context | None,
) -> bool:
    """Remove the files and the image of a snapshot that died.

    :returns: there was one, and nothing of it is left
    :raises NotGivenBack: something stays in Ceph
    """
    for root in {conf.libvirt.snapshots_directory, backup.scratch_root(conf)}:
        workspace.remove_abandoned(root, uuid)
    if entry is None:
        return False
    if entry.clone is not None:
        _detach_clone(entry.definition.name, entry.clone, conf)
    fate = _fate_of_image(entry, conf, context)
    if entry.clone is not None:
        _settle_clone(entry.definition.name, entry.clone, fate, conf)
    if fate is Fate.UNKNOWN:
        journal.remember(entry.given_back())
        return False
    journal.forget(uuid)
    events.tell(
        LOG.info,
        Event.HEALED,
        f'Domain {entry.definition.name}: nothing is left of the snapshot '
        'that died',
        uuid,
    )
    return True


class Fate(enum.Enum):
    """What has become of the image of a snapshot that died."""

    GONE = 'gone'
    COMPLETE = 'complete'
    UNKNOWN = 'unknown'


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


def _settle_clone(
    domain: str, clone: Clone, fate: Fate, conf: cfg.ConfigOpts
) -> None:
    """Remove a clone that is no image.

    :raises NotGivenBack: nobody knows whether it is one
    """
    if fate is Fate.GONE:
        direct.remove_clone(domain, Ceph(conf, clone.disk.user), clone)
    if fate is Fate.UNKNOWN:
        raise exception.NotGivenBack(
            domain=domain,
            undo=f'remove the clone {clone.image} in Ceph',
            reason='nobody knows whether it is the data of an image',
            remedy='The next snapshot of the domain, or start of '
            'nova-compute, at which Glance answers tries it again.',
        )


def _fate_of_image(
    entry: Entry, conf: cfg.ConfigOpts, context: Context | None
) -> Fate:
    """Have the image deleted, as far as it can be."""
    if entry.image is None:
        return Fate.GONE
    if context is None:
        reason = 'this snapshot goes to a file, and Glance is not asked.'
    else:
        try:
            is_active = _discard(entry, entry.image, context, conf)
        except exception.SnapshotError as error:
            reason = str(error)
        else:
            LOG.warning(
                'Image %s of a snapshot that died is gone, or was complete',
                entry.image,
            )
            return Fate.COMPLETE if is_active else Fate.GONE
    LOG.warning(
        'Image %s of a snapshot that died may be left: %s Delete it with '
        '"openstack image delete %s".',
        entry.image,
        reason,
        entry.image,
    )
    return Fate.UNKNOWN


def _discard(
    entry: Entry, image: str, context: Context, conf: cfg.ConfigOpts
) -> bool:
    """Delete an image that is not complete, and what it is made of.

    :returns: whether it is active
    """
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


def give_back(guest: Guest, entry: Entry, conf: cfg.ConfigOpts) -> None:
    """Undo what an entry says, as far as it is not undone already."""
    if entry.persistent:
        _define_again(guest, entry.definition)
    if entry.power_state is not None:
        guest.bring_back(entry.power_state)
    if not guest.is_active():
        return
    if entry.paused:
        guest.unpause()
    for device in entry.devices:
        # One that is still there may have been asked to go.
        guest.attach(device, conf.snapshot.guest_timeout)
    if entry.frozen:
        quiesce.thaw(
            guest,
            conf.snapshot.quiesce_timeout,
            conf.snapshot.guest_timeout,
        )


def _define_again(guest: Guest, definition: Definition) -> None:
    if _is_persistent(guest):
        # The operator's own, or ours, cut short before its last step.
        guest.set_autostart(definition.autostart)
    else:
        LOG.warning('Domain %s is defined again', guest.name)
        guest.define(definition)


def _is_persistent(guest: Guest) -> bool:
    try:
        return guest.persistent()
    except exception.DomainNotFound:
        # It has stopped while it was transient.
        return False


def _end_abandoned_backup(guest: Guest, directory: str, timeout: int) -> None:
    socket = guest.backup_socket()
    if socket is None:
        return
    if not socket or not _lies_in(socket, directory):
        raise exception.ForeignJob(domain=guest.name, job='backup')
    LOG.warning(
        'Domain %s: a backup job was left behind and is ended', guest.name
    )
    guest.abort_job(timeout)
    guest.try_again()


def _end_abandoned_copy(guest: Guest, directory: str, timeout: int) -> None:
    disk = guest.describe().root_disk
    if disk is None or not guest.is_active():
        return
    job = guest.block_job(disk)
    if job is None:
        return
    target = disk.mirror.path if disk.mirror else None
    if target is None or not _lies_in(target, directory):
        raise exception.ForeignBlockJob(
            domain=guest.name,
            disk=disk.target,
            job=job if target is None else f'{job} to {target}',
        )
    LOG.warning(
        'Domain %s: the copy of %s to %s was left behind and is ended',
        guest.name,
        disk.target,
        target,
    )
    guest.abort_block_job(disk, timeout)


def _lies_in(path: str, directory: str) -> bool:
    directory = os.path.realpath(directory)
    return os.path.commonpath([os.path.realpath(path), directory]) == directory
