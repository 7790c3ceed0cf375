# SPDX-License-Identifier: Apache-2.0
"""The devices of a domain, which come back with it."""

from __future__ import annotations

import time
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import fixtures
import libvirt

from lab.bounded import run
from lab.options import GuestOptions
from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor import domain
from nova_snapshot_driver.snapshot.plan.instance import Instance
from tests.functional import base

#: Stands in for a device of the host: it is unplugged in the same way, and
#: needs no hardware.
DEVICE = """
<rng model='virtio'>
  <backend model='random'>/dev/urandom</backend>
</rng>
"""


def _is_stand_in(device: ElementTree.Element) -> bool:
    return device.tag == 'rng'


class HostDeviceTest(base.SnapshotTest):
    """A running guest gives up its devices to be saved."""

    options = GuestOptions('devices')

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(
            fixtures.MockPatchObject(
                domain, '_is_passed_through', _is_stand_in
            )
        )
        self.guest.domain.attachDeviceFlags(
            DEVICE, libvirt.VIR_DOMAIN_AFFECT_LIVE
        )
        # A guest that is asked too early does not answer at all.
        time.sleep(2)

    def tearDown(self) -> None:
        for device in self.devices():
            self.guest.domain.detachDeviceAlias(
                device.alias, libvirt.VIR_DOMAIN_AFFECT_LIVE
            )
        super().tearDown()

    def devices(self) -> tuple[domain.HostDevice, ...]:
        return domain.parse(self.guest.domain.XMLDesc()).host_devices

    def test_cold(self) -> None:
        last = self.guest.ticks.last
        _snapshot, image = self.snapshot(self.driver(method='cold'))
        self.assertEqual(1, len(self.devices()))
        self.guest.still_counts()
        self.examine(image, last)

    def test_live_leaves_them_alone(self) -> None:
        [before] = self.devices()
        self.snapshot(self.driver(method='mirror'))
        self.assertEqual((before,), self.devices())

    def test_paused_is_refused(self) -> None:
        self.guest.domain.suspend()
        self.addCleanup(self.guest.domain.resume)
        self.snapshot_fails(exception.NotSupported, self.driver(method='cold'))
        self.assertEqual(1, len(self.devices()))

    def test_not_released(self) -> None:
        """A guest whose kernel stands still answers no request to unplug."""
        with mock.patch.object(
            libvirt.virDomain,
            'detachDeviceAlias',
            autospec=True,
            return_value=0,
        ):
            self.snapshot_fails(
                exception.DeviceNotReleased,
                self.driver(method='cold', device_detach_timeout=2),
            )
        self.assertEqual(1, len(self.devices()))
        self.guest.still_counts()


class FirmwareTest(base.HostTest):
    """The variables of the firmware and the TPM outlive the undefining.

    The guest has no operating system: its firmware looks for one.
    """

    def setUp(self) -> None:
        super().setUp()
        disk = self.directory / 'disk'
        run(
            ['qemu-img', 'create', '-q', '-f', 'qcow2', disk, '64M'],
            timeout=60,
        )
        self.machine = self.connection.defineXML(_machine(disk))
        self.addCleanup(
            self.machine.undefineFlags, libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        )
        self.machine.create()
        self.addCleanup(self.machine.destroy)

    def test_kept(self) -> None:
        state = self._state()
        self.assertEqual(2, len(state))
        definition = self.machine.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        self.machine.setAutostart(True)
        snapshot = self.driver(method='mirror').snapshot_to_file(
            Instance('firmware-machine'), str(self.output / 'image')
        )
        self.assertEqual('mirror', snapshot.method)
        self.assertEqual(state, self._state())
        self.assertTrue(self.machine.isPersistent())
        self.assertTrue(self.machine.autostart())
        self.assertEqual(
            definition, self.machine.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        )

    def _state(self) -> list[str]:
        """The files that are there; the firmware goes on to write them."""
        root = base.hypervisor().root / 'lib'
        files = [
            *root.glob('qemu/nvram/firmware-machine*'),
            *root.glob('swtpm/*/tpm2/tpm2-00.permall'),
        ]
        return [str(file) for file in files if file.stat().st_size]


def _machine(disk: Path) -> str:
    return f"""
<domain type='qemu'>
  <name>firmware-machine</name>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'/>
  </os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'>
    <model fallback='allow'>qemu64</model>
  </cpu>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <tpm model='tpm-crb'>
      <backend type='emulator' version='2.0'/>
    </tpm>
  </devices>
</domain>
"""  # noqa: E501
