# SPDX-License-Identifier: Apache-2.0
"""The cold way: disks are read while the guest does not run."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot.capture.base import CaptureTools
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.takings.device import DetachedDevice
from nova_snapshot_driver.takings.managed_save import ManagedSave

LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def captured(
    guest: Guest, plan: Plan, tools: CaptureTools
) -> Iterator[dict[str, Layer]]:
    """The disks themselves; an active guest is saved and stopped meanwhile.

    :raises DomainStarted: somebody started the guest meanwhile
    :raises JobLost: libvirt can't suspend the guest
    :raises QuiesceFailed: quiescing is required and failed
    """
    with contextlib.ExitStack() as stack:
        if plan.suspends:
            _see_that_it_can_be_suspended(guest)
            tools.quiesce.check()
            stack.enter_context(_suspended(guest, plan, tools))
        yield {each.target: _readable(guest, each) for each in plan.disks}
        if guest.is_active():
            raise exception.DomainStarted(domain=guest.name)


def _see_that_it_can_be_suspended(guest: Guest) -> None:
    """libvirt would try for half a minute, without the guest's devices."""
    if guest.jobs.has_lost_job():
        raise exception.JobLost(domain=guest.name)


def _readable(guest: Guest, planned: PlannedDisk) -> Layer:
    if not planned.disk.encrypted:
        return planned.source
    return dataclasses.replace(
        planned.source, passphrase=guest.passphrase(planned.disk)
    )


@contextlib.contextmanager
def _suspended(
    guest: Guest, plan: Plan, tools: CaptureTools
) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for device in guest.describe().host_devices:
            stack.enter_context(DetachedDevice(device).held(tools.undo))
        stack.enter_context(tools.quiesce.frozen())
        stack.enter_context(_saved(guest, plan.power_state, tools))
        yield


@contextlib.contextmanager
def _saved(
    guest: Guest, power_state: PowerState, tools: CaptureTools
) -> Iterator[None]:
    """The guest's memory is on disk inside, and the guest is stopped."""
    began = time.monotonic()
    try:
        with ManagedSave(power_state).held(tools.undo):
            yield
    finally:
        events.log_stall(
            LOG.info, guest, 'suspend', round(time.monotonic() - began, 3)
        )
