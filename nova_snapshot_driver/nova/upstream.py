# SPDX-License-Identifier: Apache-2.0
"""Nova's own driver, and what it is not left to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import nova.conf
from nova import utils
from nova.compute import task_states
from nova.virt.libvirt.host import Host

from nova_snapshot_driver import exception
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.instance import QuiescePolicy

CONF = nova.conf.CONF

#: The values of ``[libvirt] virt_type`` that stand for QEMU.
QEMU = ('kvm', 'qemu')


def outlive_libvirtd(host: Host) -> None:
    """See that nova-compute goes on where libvirtd dies while it is asked.

    ``Host._get_connection`` holds a lock while it asks whether a connection is
    alive. Where libvirtd dies then, libvirt says so on the thread that asks,
    and ``Host._connection_closed`` takes that lock. On eventlet another thread
    does that, later; on a native one, all that needs libvirt would wait for
    ever.
    """
    if utils.concurrency_mode_threading():
        host._wrapped_conn_lock = threading.RLock()


def require_no_freeze(guest: Guest, instance: Instance) -> None:
    """See that nobody counts on a freeze.

    Nova's own driver freezes in its live way alone, and goes on where that
    fails.

    :raises QuiesceFailed: quiescing is required, and the guest is not at rest
    """
    policy = instance.quiesce or QuiescePolicy(CONF.snapshot.quiesce)
    if policy is not QuiescePolicy.REQUIRE or _is_at_rest(guest):
        return
    raise exception.QuiesceFailed(
        domain=guest.name,
        reason="Nova's own driver takes the snapshot, and may freeze nothing",
    )


def _is_at_rest(guest: Guest) -> bool:
    if CONF.libvirt.virt_type not in QEMU:
        # There it can't be asked whether a guest is suspended, and none is.
        return not guest.is_active()
    return guest.power_state() is PowerState.SHUT_OFF


def unless_torn(
    guest: Guest, update_task_state: Callable[..., Any]
) -> Callable[..., Any]:
    """The same, unless the disk of a running guest is read after it.

    Nova's own driver asks Ceph for a clone first. Where Glance then refuses
    its location, it goes back and reads the disk itself; but it has resumed
    by then the guest that it had suspended for that. A guest that is live it
    suspends after it has gone back. Source: ``LibvirtDriver.snapshot``.

    :param guest: as the snapshot finds it
    """
    is_live = guest.is_active() and not (
        CONF.ephemeral_storage_encryption.enabled
        or CONF.workarounds.disable_libvirt_livesnapshot
    )

    def update(task_state: str, **expected: str) -> None:
        goes_back = (
            task_state == task_states.IMAGE_PENDING_UPLOAD
            and expected.get('expected_state') == task_states.IMAGE_UPLOADING
        )
        if goes_back and not is_live and guest.is_active():
            raise exception.DiskInUse(domain=guest.name)
        update_task_state(task_state=task_state, **expected)

    return update
