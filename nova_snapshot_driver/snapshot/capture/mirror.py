# SPDX-License-Identifier: Apache-2.0
"""The live way: a block job copies the topmost image into a delta.

The order is that of ``LibvirtDriver._live_snapshot`` in Nova: the domain is
transient while the copy runs, since libvirt copies no other, and the file
systems stand still only for the moment in which the copy is ended.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import qemu_img
from nova_snapshot_driver.common import ownership
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.ownership import Kind
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.wait import Limit
from nova_snapshot_driver.hypervisor.block_copy import BlockCopy
from nova_snapshot_driver.hypervisor.block_copy import CopyProgress
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.jobs import abort_limit
from nova_snapshot_driver.snapshot.capture.base import CaptureTools
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.state import workspace
from nova_snapshot_driver.takings.undefine import Undefine


@contextlib.contextmanager
def captured(
    guest: Guest, plan: Plan, tools: CaptureTools
) -> Iterator[dict[str, Layer]]:
    """The content of a disk while the guest runs on.

    :param plan: of one disk: copies of several would not end at one instant

    :raises MirrorFailed: the copy ended too early
    :raises ClaimRefused: the delta is something else by then
    :raises QuiesceFailed: quiescing is required and failed
    """
    [planned] = plan.disks
    owners = _possible_owners(guest)
    with _delta(guest, planned, tools.workspace) as delta:
        tools.quiesce.check()
        limit = abort_limit(tools.settings.job_abort_timeout)
        copy = BlockCopy(guest, planned.disk, limit)
        with (
            _transient(guest, planned.disk, tools),
            copy.running(delta.path, tools.settings.bandwidth),
        ):
            _wait_until_ready(guest, copy, tools)
            with tools.quiesce.frozen():
                copy.finish()
        tools.environment.claim(delta.path, Kind.FILE, owners)
        yield {planned.target: delta}


@contextlib.contextmanager
def _delta(
    guest: Guest, planned: PlannedDisk, space: workspace.Workspace
) -> Iterator[Layer]:
    """An empty image on the same backing file, of the same virtual size."""
    backing = planned.source.backing
    delta = Layer(space.file('delta'), 'qcow2', backing=backing)
    try:
        qemu_img.create_overlay(
            delta.path, guest.capacity(planned.disk), backing
        )
        ownership.set_mode(delta.path, 0o600)
        yield delta
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(delta.path)


def _possible_owners(guest: Guest) -> set[int]:
    """The users who may own the delta after the copy.

    libvirt gives it to QEMU, and back to us, or to root where it does not
    remember us.
    """
    owners = {os.geteuid(), ownership.ROOT}
    qemu = guest.describe().qemu_user
    return owners if qemu is None else {*owners, qemu.uid}


@contextlib.contextmanager
def _transient(
    guest: Guest, disk: Disk, tools: CaptureTools
) -> Iterator[None]:
    """The domain has no persistent definition inside, as the job wants it.

    :raises MirrorFailed: its guest has stopped, and it was gone with it
    """
    if not guest.persistent():
        yield
        return
    try:
        with Undefine(guest.definition()).held(tools.undo):
            yield
    except exception.DomainNotFound as error:
        with tools.undo.claimed() as is_wanted:
            if not is_wanted:
                raise
        raise exception.MirrorFailed(
            domain=guest.name,
            disk=disk.target,
            reason='the guest has stopped',
        ) from error


def _wait_until_ready(
    guest: Guest, copy: BlockCopy, tools: CaptureTools
) -> None:
    limit = Limit(tools.settings.mirror_timeout, 'mirror_timeout')

    def is_ready() -> bool:
        state = _progress(copy, tools.workspace)
        done = state.total if state.ready else state.done
        tools.progress('copy', done, state.total)
        return state.ready

    wait.until(
        is_ready,
        limit.seconds,
        exception.HypervisorTimeout(
            domain=guest.name,
            operation='the copy of the disk',
            seconds=limit.seconds,
            bound=limit.bound,
        ),
        cancellation=tools.cancellation,
    )


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
