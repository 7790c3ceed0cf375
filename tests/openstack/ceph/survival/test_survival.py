# SPDX-License-Identifier: Apache-2.0
"""The paths of a snapshot, each with all who may die at each of its steps."""

from __future__ import annotations

from typing import Any
from typing import ClassVar

from openstack.compute.v2.server import Server
from openstack.image.v2.image import Image

from lab.bounded import wait_until
from lab.cloud.configuration import Overrides
from lab.cloud.content import RAW_IMAGE
from tests.openstack.ceph.shadows import TO_VOLUME
from tests.openstack.ceph.shadows import ShadowCase
from tests.openstack.ceph.survival import victims
from tests.openstack.ceph.survival.base import SurvivalTest
from tests.openstack.ceph.test_rbd import CephTest
from tests.openstack.ceph.test_volumes import VOLUME_TIMEOUT
from tests.openstack.ceph.test_volumes import VolumesTest


class DefaultTest(SurvivalTest):
    """With the options that nova-compute has by default."""

    def test_backup(self) -> None:
        self.survives('backup')

    def test_shut_off(self) -> None:
        self.survives('shut off', 'SHUTOFF')


class MirrorTest(SurvivalTest):
    nova_compute: ClassVar[Overrides] = {
        **SurvivalTest.nova_compute,
        ('snapshot', 'method'): 'mirror',
    }

    def test_mirror(self) -> None:
        self.survives('mirror')


class ColdTest(SurvivalTest):
    nova_compute: ClassVar[Overrides] = {
        **SurvivalTest.nova_compute,
        ('snapshot', 'method'): 'cold',
    }

    def test_cold(self) -> None:
        self.survives('cold')


class RootVolumeTest(VolumesTest, SurvivalTest):
    cloud_options: ClassVar[dict[str, Any]] = SurvivalTest.cloud_options
    takes_part: ClassVar[tuple[str, ...]] = tuple(victims.VICTIMS)

    @classmethod
    def boot_server(cls) -> Server:
        return cls.boot_from_volume(1)

    def test_volumes(self) -> None:
        self.survives('volumes')

    def prove(self, image: Image) -> None:
        """The snapshots of the image are in Cinder."""
        volumes = self.volumes_of(self.server)
        self.assertEqual(sorted(volumes), sorted(self.snapshots_of(volumes)))
        for each in self.mapping(image):
            snapshot: Any = self.cinder.get_snapshot(each['snapshot_id'])
            self.assertEqual('available', snapshot.status)

    def discard(self, image: Image) -> None:
        """And wait: a cinder-volume that dies deletes nothing any more."""
        super().discard(image)
        self.delete_snapshots(self.mapping(image))
        wait_until(
            lambda: not self.left_elsewhere(),
            'Cinder to have deleted the snapshots',
            VOLUME_TIMEOUT,
            0.2,
        )

    def left_elsewhere(self) -> list[str]:
        return [
            f'a snapshot of volume {volume}'
            for volume in self.snapshots_of(self.volumes_of(self.server))
        ]


class ShadowTest(ShadowCase, SurvivalTest):
    """Into a volume in Cinder, as increments."""

    cloud_options: ClassVar[dict[str, Any]] = SurvivalTest.cloud_options
    takes_part: ClassVar[tuple[str, ...]] = tuple(victims.VICTIMS)

    @classmethod
    def boot_server(cls) -> Server:
        return cls.boot(metadata=TO_VOLUME)

    def test_shadow(self) -> None:
        # The steps are those of an increment.
        self.discard(self.snapshot(self.server))
        self.survives('shadow')

    def prove(self, image: Image) -> None:
        self.prove_snapshot(image, self.earliest)

    def left_elsewhere(self) -> list[str]:
        return self.leftovers(self.server)


class DirectTest(CephTest, SurvivalTest):
    cloud_options: ClassVar[dict[str, Any]] = {
        **SurvivalTest.cloud_options,
        **CephTest.cloud_options,
    }

    @classmethod
    def boot_server(cls) -> Server:
        return cls.boot(RAW_IMAGE)

    def test_direct(self) -> None:
        self.survives('direct')
