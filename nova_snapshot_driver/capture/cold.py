# SPDX-License-Identifier: Apache-2.0
"""The cold way: the disk is read while the guest does not run."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver import events
from nova_snapshot_driver import exception
from nova_snapshot_driver import undo
from nova_snapshot_driver.capture import Means
from nova_snapshot_driver.domain import HostDevice
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.plan import Plan

LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def view(guest: Guest, plan: Plan, means: Means) -> Iterator[Layer]:
    """The disk itself; an active guest is saved and stopped meanwhile.

    :raises DomainStarted: somebody started the guest meanwhile
    :raises JobLost: libvirt can't suspend the guest
    :raises QuiesceFailed: quiescing is required and failed
    """
    with contextlib.ExitStack() as stack:
        if plan.suspends:
            _see_that_it_can_be_suspended(guest)
            means.quiesce.check()
            stack.enter_context(_suspended(guest, plan, means))
        yield _readable(guest, plan)
        if guest.is_active():
            raise exception.DomainStarted(domain=guest.name)


def _see_that_it_can_be_suspended(guest: Guest) -> None:
    """libvirt would try for half a minute, without the guest's devices."""
    if guest.has_lost_job():
        raise exception.JobLost(domain=guest.name)


def _readable(guest: Guest, plan: Plan) -> Layer:
    if not plan.disk.encrypted:
        return plan.source
    return dataclasses.replace(
        plan.source, passphrase=guest.passphrase(plan.disk)
    )


@contextlib.contextmanager
def _suspended(guest: Guest, plan: Plan, means: Means) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for device in guest.describe().host_devices:
            stack.enter_context(_detached(guest, device, means))
        stack.enter_context(means.quiesce.frozen())
        stack.enter_context(_saved(guest, plan.power_state, means))
        yield


@contextlib.contextmanager
def _detached(
    guest: Guest, device: HostDevice, means: Means
) -> Iterator[None]:
    """The guest does not have a device of the host inside."""
    timeout = means.conf.snapshot.guest_timeout
    try:
        guest.detach(device, timeout, means.cancellation)
        yield
    finally:
        undo.surely(
            guest.name,
            f'attach {device.alias}',
            lambda: guest.attach(device, timeout),
            'Attach the device with "virsh attach-device", or stop the guest '
            'and start it again.',
        )


@contextlib.contextmanager
def _saved(
    guest: Guest, power_state: PowerState, means: Means
) -> Iterator[None]:
    """The guest's memory is on disk inside, and the guest is stopped."""
    began = time.monotonic()
    try:
        guest.managed_save(
            means.conf.snapshot.guest_timeout, means.cancellation
        )
        yield
    finally:
        undo.surely(
            guest.name,
            'start from the managed save',
            lambda: guest.bring_back(power_state),
            'Nothing of its memory is lost: start it with "virsh start '
            f'{guest.name}", and thaw it with "virsh domfsthaw '
            f'{guest.name}" if it was quiesced.',
        )
        events.tell_still(
            LOG.info, guest, 'suspend', round(time.monotonic() - began, 3)
        )
