# SPDX-License-Identifier: Apache-2.0
"""The devices of a guest that can be taken from it while it runs."""

from __future__ import annotations

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.wait import Limit
from nova_snapshot_driver.hypervisor.bindings import libvirt
from nova_snapshot_driver.hypervisor.domain import HostDevice
from nova_snapshot_driver.hypervisor.libvirt_domain import LibvirtDomain

#: How long a device is waited for that the guest did not release in time, or
#: may be about to, in seconds.
LATE_RELEASE = 10


class Devices:
    """The devices of one guest."""

    def __init__(self, domain: LibvirtDomain) -> None:
        self._domain = domain

    def has(self, device: HostDevice) -> bool:
        """Whether a device is there, or the same one attached anew."""
        present = self._domain.describe().detachable_devices
        return device.identity in (each.identity for each in present)

    def detach(
        self,
        device: HostDevice,
        timeout: int,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Take a device away, and wait until the guest has let it go.

        :param timeout: the seconds in which the guest must let it go
        :raises DeviceNotReleased: the guest did not
        """
        operation = f'detach the device {device.alias}'
        with self._domain.calling(operation) as handle:
            handle.detachDeviceAlias(
                device.alias, libvirt.VIR_DOMAIN_AFFECT_LIVE
            )
        try:
            self._wait_until_released(device, timeout, cancellation)
        except exception.HypervisorSilent:
            raise
        except exception.HypervisorTimeout:
            raise exception.DeviceNotReleased(
                domain=self._domain.name, device=device.alias, seconds=timeout
            ) from None

    def attach(self, device: HostDevice, timeout: int) -> None:
        """Give a device back that was asked for, whether it came or not.

        :param timeout: the seconds in which the guest may still let it go: a
            request to do so can't be taken back
        """
        try:
            self._wait_until_released(device, min(timeout, LATE_RELEASE))
        except exception.HypervisorSilent:
            raise
        except exception.HypervisorTimeout:
            # The guest keeps it.
            return
        operation = f'attach the device {device.alias}'
        with self._domain.calling(operation) as handle:
            handle.attachDeviceFlags(
                device.xml, libvirt.VIR_DOMAIN_AFFECT_LIVE
            )

    def _wait_until_released(
        self,
        device: HostDevice,
        timeout: int,
        cancellation: Cancellation | None = None,
    ) -> None:
        self._domain.wait_until(
            lambda: not self.has(device),
            f'detaching the device {device.alias}',
            Limit(timeout),
            cancellation=cancellation,
        )
