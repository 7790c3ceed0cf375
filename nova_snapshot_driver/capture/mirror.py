# SPDX-License-Identifier: Apache-2.0
"""The live way: a block job copies the topmost image into a delta.

The order is that of ``LibvirtDriver._live_snapshot`` in Nova: the domain is
transient while the copy runs, since libvirt copies no other, and the file
systems stand still only for the moment in which the copy is ended.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver import qemu_img
from nova_snapshot_driver import undo
from nova_snapshot_driver import workspace
from nova_snapshot_driver.block_copy import POLL_INTERVAL
from nova_snapshot_driver.block_copy import BlockCopy
from nova_snapshot_driver.block_copy import CopyProgress
from nova_snapshot_driver.capture import Means
from nova_snapshot_driver.domain import Disk
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.plan import Plan


@contextlib.contextmanager
def view(guest: Guest, plan: Plan, means: Means) -> Iterator[Layer]:
    """The content of the root disk while the guest runs on.

    :raises MirrorFailed: the copy ended too early
    :raises QuiesceFailed: quiescing is required and failed
    """
    with _delta(guest, plan.disk, means.workspace) as delta:
        means.quiesce.check()
        with (
            _transient(guest, plan.disk, means),
            guest.copying(
                plan.disk,
                delta.path,
                means.conf.snapshot.guest_timeout,
                means.conf.snapshot.bandwidth,
            ) as copy,
        ):
            _wait_until_ready(guest, copy, means)
            with means.quiesce.frozen():
                copy.finish()
        means.surroundings.claim(delta.path)
        yield delta


@contextlib.contextmanager
def _delta(
    guest: Guest, disk: Disk, space: workspace.Workspace
) -> Iterator[Layer]:
    """An empty image on the same backing file, of the same virtual size."""
    delta = Layer(space.file('delta'), 'qcow2')
    backing = disk.backing[0] if disk.backing else None
    try:
        qemu_img.create_overlay(delta.path, guest.capacity(disk), backing)
        os.chmod(delta.path, 0o600)
        yield delta
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(delta.path)


@contextlib.contextmanager
def _transient(guest: Guest, disk: Disk, means: Means) -> Iterator[None]:
    """The domain has no persistent definition inside, as the job wants it.

    :raises MirrorFailed: its guest has stopped, and it was gone with it
    """
    if not guest.persistent():
        yield
        return
    definition = guest.definition()
    try:
        guest.undefine()
        yield
    except exception.DomainNotFound as error:
        if means.disowned():
            raise
        raise exception.MirrorFailed(
            domain=guest.name,
            disk=disk.target,
            reason='the guest has stopped',
        ) from error
    finally:
        if not means.disowned():
            undo.surely(
                guest.name,
                'define',
                lambda: guest.define(definition),
                'Its definition is kept in [snapshot] state_directory, and '
                'the next snapshot of it defines it again.',
            )


def _wait_until_ready(guest: Guest, copy: BlockCopy, means: Means) -> None:
    timeout = means.conf.snapshot.mirror_timeout
    deadline = time.monotonic() + timeout
    while not (state := _progress(copy, means.workspace)).ready:
        means.progress('copy', state.done, state.total)
        if time.monotonic() > deadline:
            raise exception.HypervisorTimeout(
                domain=guest.name,
                operation='the copy of the disk',
                seconds=timeout,
                option='mirror_timeout',
            )
        means.cancellation.sleep(POLL_INTERVAL)
    means.progress('copy', state.total, state.total)


def _progress(copy: BlockCopy, space: workspace.Workspace) -> CopyProgress:
    try:
        return copy.progress()
    except exception.MirrorFailed as error:
        # libvirt does not say why; want of space is the usual reason.
        free = workspace.free_bytes(space.path) // workspace.MIB
        reason = (
            f'{error.fields["reason"]} (its target is in {space.path}, '
            f'where {free} MiB are free)'
        )
        raise exception.MirrorFailed(
            **{**error.fields, 'reason': reason}
        ) from error
