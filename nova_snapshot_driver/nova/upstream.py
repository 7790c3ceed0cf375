# SPDX-License-Identifier: Apache-2.0
"""Nova's own driver, and the cases in which it must not take over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import nova.conf
from nova import objects as nova_objects
from nova import utils
from nova.compute import task_states
from nova.virt.libvirt.host import Host

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.nova import objects
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.instance import QuiescePolicy

CONF = nova.conf.CONF

#: The values of ``[libvirt] virt_type`` that stand for QEMU.
QEMU = ('kvm', 'qemu')


def outlive_libvirtd(host: Host) -> None:
    """Keep nova-compute alive where libvirtd dies during a call.

    ``Host._get_connection`` holds a lock while it asks whether a connection is
    alive. Where libvirtd dies then, libvirt reports the death on the thread
    that asks, and ``Host._connection_closed`` takes the same lock. On eventlet
    another thread does that, later; with native threads, everything that needs
    libvirt would wait for ever.
    """
    if utils.concurrency_mode_threading():
        host._wrapped_conn_lock = threading.RLock()


def connect(host: Host) -> Any:
    """A connection like that of Nova, but without its event handlers.

    :returns: a ``virConnect``, wrapped as Nova's is where eventlet runs
    """
    return host._connect(host._uri, False)


def require_no_freeze(guest: Guest, instance: Instance) -> None:
    """Check that nobody counts on a freeze.

    Nova's own driver freezes in live snapshots alone, and goes on where the
    freeze fails.

    :raises QuiesceFailed: quiescing is required, and the guest is not at rest
    """
    policy = instance.quiesce or QuiescePolicy(CONF.snapshot.quiesce)
    if policy is not QuiescePolicy.REQUIRE or _is_at_rest(guest):
        return
    raise exception.QuiesceFailed(
        domain=guest.name,
        reason=Words.LEFT_TO_NOVA.value,
        public=Words.LEFT_TO_NOVA.value,
    )


def as_it_may_freeze(instance: nova_objects.Instance) -> nova_objects.Instance:
    """The instance for Nova's own driver, which freezes wherever it can.

    That driver does not know ``[snapshot] quiesce``, and asks the properties
    of the image whether there is an agent. Source:
    ``LibvirtDriver._can_quiesce``.
    """
    policy = objects.instance_of(instance).quiesce or QuiescePolicy(
        CONF.snapshot.quiesce
    )
    if policy is QuiescePolicy.NEVER:
        return objects.without_quiesce(instance)
    return instance


def _is_at_rest(guest: Guest) -> bool:
    if CONF.libvirt.virt_type not in QEMU:
        # An inactive domain can't be asked whether it is suspended.
        return not guest.is_active()
    return guest.power.state() is PowerState.SHUT_OFF


def unless_torn(
    guest: Guest, update_task_state: Callable[..., Any]
) -> Callable[..., Any]:
    """The task state callback, which refuses to read a running guest's disk.

    Nova's own driver asks Ceph for a clone first. Where Glance then refuses
    its location, it falls back and reads the disk itself; but it has resumed
    by then the guest that it had suspended for that. A live guest it suspends
    only after it has fallen back. Source: ``LibvirtDriver.snapshot``.

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
