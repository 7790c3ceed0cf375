# SPDX-License-Identifier: Apache-2.0
"""Nova's own tests of snapshots, against this driver.

Each class says who takes the snapshots of its tests, and a test that is taken
another way, or that takes none, has failed.
"""

from __future__ import annotations

from typing import ClassVar
from unittest import mock

from nova import test
from nova.tests.unit.virt import test_virt_drivers
from nova.tests.unit.virt.libvirt import test_driver

from tests.nova.upstream import AgainstOurDriver
from tests.nova.upstream import Way
from tests.nova.upstream import chosen

#: Upstream reads the volume itself, as root, from a guest that is suspended.
READS_ITSELF = (
    'it wants convert_image() to be called, and here QEMU exports the volume '
    'of a guest that runs on'
)


#: Upstream asks nobody but itself whether it is to suspend a guest.
SUSPENDS = 'it wants a guest to be suspended that runs on here, or is off'


@chosen(
    not_held={
        'test_cold_snapshot_based_on_power_state': SUSPENDS,
        'test_raw_with_rbd_clone_failure_does_cold_snapshot': SUSPENDS,
        'test_raw_with_rbd_clone_fails_image_deleted': 'it wants upstream '
        'to log a warning, which nova-compute does too',
    }
)
class LibvirtSnapshotTests(AgainstOurDriver, test_driver.LibvirtSnapshotTests):
    way = Way.ENGINE
    ways: ClassVar = {
        'test_ploop': Way.UPSTREAM,
    }

    def test_failing_domain_not_found(self) -> None:
        self.engine.domain_vanishes = True
        super().test_failing_domain_not_found()


@chosen()
class LXCSnapshotTests(AgainstOurDriver, test_driver.LXCSnapshotTests):
    """The engine is not asked where there is no QEMU."""

    way = Way.UPSTREAM

    # Upstream skips it, which proves nothing; SkippedTest looks after it.
    test_raw_with_rbd_clone_failure_does_cold_snapshot = None


@chosen(not_held={'test_raw': READS_ITSELF, 'test_qcow2': READS_ITSELF})
class LVMSnapshotTests(AgainstOurDriver, test_driver.LVMSnapshotTests):
    way = Way.ENGINE

    def image_of_a_volume(self, disk_format: str) -> None:
        """All that upstream's tests say of the image itself."""
        self.flags(
            images_type='lvm', images_volume_group='nova-vg', group='libvirt'
        )
        with (
            mock.patch(
                'nova.virt.libvirt.utils.find_disk',
                new=mock.Mock(return_value=('/dev/nova-vg/lv', 'raw')),
            ),
            mock.patch(
                'nova.virt.libvirt.utils.get_disk_type_from_path',
                new=mock.Mock(return_value='lvm'),
            ),
        ):
            self._test_snapshot(disk_format=disk_format)

    def test_image_is_raw(self) -> None:
        self.image_of_a_volume('raw')

    def test_image_is_qcow2(self) -> None:
        self.flags(snapshot_image_format='qcow2', group='libvirt')
        self.image_of_a_volume('qcow2')


@chosen()
class LibvirtVolumeSnapshotTestCase(
    AgainstOurDriver, test_driver.LibvirtVolumeSnapshotTestCase
):
    """Snapshots of volumes, of which this driver changes nothing."""


@chosen('snapshot|quiesce|destroy|init_host|public_api_signatures')
class LibvirtConnTestCase(AgainstOurDriver, test_driver.LibvirtConnTestCase):
    """The parts of upstream's snapshot, and the methods that are ours."""


@chosen('snapshot|destroy|init_host')
class VirtDriverTestCase(
    AgainstOurDriver, test_virt_drivers.LibvirtConnTestCase
):
    """The requirements of Nova for any driver."""

    ways: ClassVar = {
        'test_snapshot_running': Way.ENGINE,
        'test_snapshot_not_running': Way.REFUSED,
    }


class SkippedTest(test.NoDBTestCase):
    def test_upstream_skips_it_too(self) -> None:
        case = test_driver.LXCSnapshotTests(
            'test_raw_with_rbd_clone_failure_does_cold_snapshot'
        )
        self.assertRaises(self.skipException, case._get_test_method())
