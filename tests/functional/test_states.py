# SPDX-License-Identifier: Apache-2.0
"""A guest that does not run, and has a QEMU process."""

from __future__ import annotations

import libvirt

from lab.bounded import wait_until
from lab.disks import Layer
from lab.options import GuestOptions
from lab.options import Shape
from nova_snapshot_driver import exception
from nova_snapshot_driver.snapshot.plan.instance import Instance
from tests.functional import base
from tests.functional.small_file_system import SmallFileSystem

STOPPED = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR]

LIVE = ('backup', 'mirror')

#: MiB, for what the guest writes
SMALL = 8

PATIENCE = 30

_EXTERNAL = """
<domainsnapshot>
  <disks><disk name='vda' snapshot='external'>
    <source file='{path}'/>
  </disk></disks>
</domainsnapshot>
"""


class StateCase(base.SnapshotTest):
    def seen(self) -> list[int]:
        return [*self.guest.domain.state()]

    def stays(self, path: str) -> None:
        """A snapshot is taken, and libvirt says of the guest what it said."""
        before, last = self.seen(), self.guest.ticks.last
        snapshot, image = self.snapshot(self.driver(method=path))
        self.assertEqual(path, snapshot.method)
        self.assertFalse(snapshot.quiesced)
        self.assertIn('its agent cannot answer', snapshot.quiesced_reason)
        self.examine(image, last)
        self.assertEqual(before, self.seen())

    def cannot_be_frozen(self) -> None:
        self.snapshot_fails(
            exception.QuiesceFailed, self.driver(quiesce='require')
        )


class AsleepTest(StateCase):
    options = GuestOptions('asleep', Shape.QCOW2, sleeps_and_crashes=True)

    def test_sleeps_on_and_wakes_up(self) -> None:
        self.guest.fall_asleep()
        for path in LIVE:
            self.stays(path)
        self.cannot_be_frozen()
        # libvirt would bring it back paused, and not wake it any more.
        error = self.snapshot_fails(
            exception.NotSupported, self.driver(method='cold')
        )
        self.assertIn('dompmwakeup', str(error))
        self.assertEqual(libvirt.VIR_DOMAIN_PMSUSPENDED, self.seen()[0])
        self.guest.wake_up()
        self.guest.still_counts(PATIENCE)
        wait_until(self.guest.agent_answers, 'its agent', PATIENCE)
        snapshot, _image = self.snapshot(self.driver())
        self.assertTrue(snapshot.quiesced)


class WokenTest(StateCase):
    options = GuestOptions('woken', Shape.QCOW2, sleeps_and_crashes=True)

    def test_wakes_up_meanwhile(self) -> None:
        self.guest.fall_asleep()
        last = self.guest.ticks.last
        image = self.output / 'image'
        with self.meanwhile('blockJobAbort', self.guest.wake_up) as connection:
            snapshot = self.driver(connection).snapshot_to_file(
                Instance(self.guest.name), str(image)
            )
        self.assertEqual('the guest is asleep', snapshot.method_reason)
        self.examine(Layer(image, snapshot.disks[0].disk_format), last)
        self.guest.still_counts(PATIENCE)


class CrashedTest(StateCase):
    options = GuestOptions('crashed', Shape.QCOW2, sleeps_and_crashes=True)

    def test_preserved(self) -> None:
        self.guest.crash()
        for path in LIVE:
            self.stays(path)
        self.cannot_be_frozen()
        error = self.snapshot_fails(
            exception.NotSupported, self.driver(method='cold')
        )
        self.assertIn('virsh reset', str(error))
        self.assertEqual(libvirt.VIR_DOMAIN_CRASHED, self.seen()[0])


class WriteErrorTest(StateCase):
    """QEMU has stopped it, since one of its writes has failed."""

    options = GuestOptions('ioerror', Shape.QCOW2)

    def setUp(self) -> None:
        super().setUp()
        # The guest writes to another file from now on.
        self.small = SmallFileSystem(self.directory / 'small', SMALL)
        self.useFixture(self.small)
        overlay = self.small.mount_point / 'overlay'
        self.guest.domain.snapshotCreateXML(
            _EXTERNAL.format(path=overlay),
            libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
            | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA,
        )
        # QEMU has it open when the file system is taken away.
        self.addCleanup(self.guest.destroy)

    def test_stays_stopped(self) -> None:
        self.small.fill()
        wait_until(lambda: self.seen() == STOPPED, 'a write to fail', PATIENCE)
        for path in LIVE:
            self.stays(path)
        self.cannot_be_frozen()
        # The guest comes back paused, and repeats its write when resumed.
        _snapshot, image = self.snapshot(self.driver(method='cold'))
        self.examine(image, self.guest.ticks.last)
        self.assertTrue(self.guest.paused)
        self.small.empty()
        self.guest.domain.resume()
        self.guest.still_counts(PATIENCE)
