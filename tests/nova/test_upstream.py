# SPDX-License-Identifier: Apache-2.0
"""Nova's own tests of snapshots, against this driver.

Each class says who takes the snapshots of its tests, and a test that is taken
another way, or that takes none, has failed.
"""

from __future__ import annotations

from typing import ClassVar
from unittest import mock

from nova import exception as nova_exception
from nova import test
from nova.tests.unit.virt import test_virt_drivers
from nova.tests.unit.virt.libvirt import test_driver

from nova_snapshot_driver.nova.compute import LibvirtSnapshotDriver
from nova_snapshot_driver.nova.errors import SnapshotFailed
from tests.nova.upstream import AgainstOurDriver
from tests.nova.upstream import Way
from tests.nova.upstream import chosen
from tests.nova.upstream import names_of_tests

#: Upstream reads the volume itself, as root, from a guest that is suspended.
READS_ITSELF = (
    'it wants convert_image() to be called, and here QEMU exports the volume '
    'of a guest that runs on'
)


@chosen()
class LibvirtSnapshotTests(AgainstOurDriver, test_driver.LibvirtSnapshotTests):
    way = Way.ENGINE
    ways: ClassVar = {
        'test_ploop': Way.UPSTREAM,
        'test_cold_snapshot_based_on_power_state': Way.UPSTREAM,
        'test_disk_of_a_guest_that_was_resumed_is_not_read': Way.UPSTREAM,
        **{
            name: Way.UPSTREAM
            for name in names_of_tests(test_driver.LibvirtSnapshotTests)
            if name.startswith('test_raw_with_rbd_')
        },
    }

    def test_failing_domain_not_found(self) -> None:
        self.engine.domain_vanishes = True
        super().test_failing_domain_not_found()

    def test_disk_of_a_guest_that_was_resumed_is_not_read(self) -> None:
        """Upstream has resumed it when Glance refuses the clone in Ceph, and
        then reads the disk itself.
        """
        self.flags(images_type='rbd', group='libvirt')
        self.flags(disable_libvirt_livesnapshot=True, group='workarounds')
        refuse = mock.Mock(side_effect=nova_exception.Forbidden())
        suspend, convert_image = mock.Mock(), mock.Mock()
        ceph = mock.MagicMock()
        ceph.return_value.parent_info.return_value = ['pool', '', '']
        ceph.return_value.parse_url.return_value = ['a', 'b', 'c', 'd']
        with (
            mock.patch(
                'nova.virt.libvirt.utils.find_disk',
                new=mock.Mock(return_value=('rbd:some/image', 'raw')),
            ),
            mock.patch('nova.storage.rbd_utils.rbd', new=mock.Mock()),
            mock.patch('nova.storage.rbd_utils.RBDDriver', new=ceph),
            mock.patch.object(LibvirtSnapshotDriver, 'suspend', new=suspend),
            mock.patch('nova.virt.images.convert_image', new=convert_image),
            mock.patch.object(self.image_service, 'update', new=refuse),
        ):
            error = self.assertRaises(
                SnapshotFailed, self._test_snapshot, disk_format='raw'
            )
        self.assertIn('disk-in-use', str(error))
        # It is the way that is meant.
        suspend.assert_called_once()
        refuse.assert_called_once()
        ceph.return_value.destroy_volume.assert_called_once()
        convert_image.assert_not_called()


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


@chosen('snapshot|quiesce|destroy|init_host')
class LibvirtConnTestCase(AgainstOurDriver, test_driver.LibvirtConnTestCase):
    """The parts of upstream's snapshot, and the methods that are ours."""


@chosen('snapshot|destroy|init_host')
class VirtDriverTestCase(
    AgainstOurDriver, test_virt_drivers.LibvirtConnTestCase
):
    """What Nova wants of any driver."""

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
