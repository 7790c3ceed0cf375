# SPDX-License-Identifier: Apache-2.0
"""Servers whose snapshots go to a volume in Cinder."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any
from typing import ClassVar

from openstack import exceptions as sdk_exceptions
from openstack.compute.v2.server import Server
from openstack.image.v2.image import Image

from lab.bounded import run
from lab.bounded import wait_until
from lab.cloud.options import Storage
from lab.disks import Layer
from lab.evidence import Evidence
from nova_snapshot_driver.snapshot.destination.standing import SETTLED
from nova_snapshot_driver.takings.cinder_snapshots import MARK
from nova_snapshot_driver.takings.shadow_volume import OF
from tests.openstack import base

VOLUME_TIMEOUT = 120
COMPARE_TIMEOUT = 120

#: The request for it, on a request, a server or an image.
TO_VOLUME: dict[str, Any] = {'snapshot_target': 'volume'}


class ShadowCase(base.CloudTest):
    """The common parts of the tests of shadow volumes."""

    cloud_options: ClassVar[dict[str, Any]] = {'storage': Storage.CEPH}

    def setUp(self) -> None:
        super().setUp()
        # By its type it may be one of version 2.
        self.cinder: Any = self.demo.block_storage

    # Shadows and their snapshots

    @classmethod
    def shadows_of(cls, server: Server) -> list[Any]:
        admin: Any = cls.admin.block_storage
        return [
            volume
            for volume in admin.volumes(details=True, all_projects=True)
            if volume.metadata.get(OF) == server.id
        ]

    @classmethod
    def snapshots_of(cls, volume: Any) -> list[Any]:
        admin: Any = cls.admin.block_storage
        return [
            snapshot
            for snapshot in admin.snapshots(details=True, all_projects=True)
            if snapshot.volume_id == volume.id
        ]

    @staticmethod
    def mapping(image: Image) -> dict[str, Any]:
        (device,) = json.loads(image.properties['block_device_mapping'])
        found: dict[str, Any] = device
        return found

    def leftovers(self, server: Server) -> list[str]:
        """The breaches of the laws, in Cinder."""
        found = []
        for volume in self.shadows_of(server):
            if volume.status != 'available':
                found.append(f'volume {volume.id} is {volume.status}')
            for snapshot in self.snapshots_of(volume):
                if snapshot.metadata.get(MARK) and not snapshot.metadata.get(
                    SETTLED
                ):
                    found.append(f'snapshot {snapshot.id} is not complete')
        return found

    # Proofs

    def download(self, image: Image) -> Layer:
        """The content of the snapshot that an image maps."""
        snapshot: Any = self.admin.block_storage.get_snapshot(
            self.mapping(image)['snapshot_id']
        )
        path = self.directory / image.id
        self.cloud.ceph.rbd(
            'export',
            f'volumes/volume-{snapshot.volume_id}@snapshot-{snapshot.id}',
            path,
        )
        return Layer(path, 'raw')

    def prove_snapshot(self, image: Image, earliest: int) -> Evidence:
        self.assertEqual('active', image.status)
        self.assertEqual(0, image.size)
        return self.examine(image, earliest)

    def disk_of(self, server: Server) -> Path:
        return self.cloud.instances_path / server.id / 'disk'

    def assert_same_as_disk(self, server: Server, image: Image) -> None:
        """An image has every bit of the disk of a server that stands still."""
        run(
            [
                *('qemu-img', 'compare', '-U', '-f', 'qcow2', '-F', 'raw'),
                *(self.disk_of(server), self.download(image).path),
            ],
            timeout=COMPARE_TIMEOUT,
        )

    # The end

    @classmethod
    def delete(cls, server: Server) -> None:
        """Delete a server, and what its snapshots have left in Cinder."""
        super().delete(server)
        admin: Any = cls.admin.block_storage

        def is_gone() -> bool:
            for volume in cls.shadows_of(server):
                # Cinder may be at work on some of them.
                with contextlib.suppress(sdk_exceptions.HttpException):
                    for snapshot in cls.snapshots_of(volume):
                        admin.delete_snapshot(snapshot.id)
                    admin.delete_volume(volume.id)
            return not cls.shadows_of(server)

        wait_until(is_gone, 'Cinder to delete', VOLUME_TIMEOUT, 0.5)
