# SPDX-License-Identifier: Apache-2.0
"""Servers with disks in Ceph: what a test of their snapshots stands on."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any
from typing import ClassVar

from openstack import exceptions as sdk_exceptions
from openstack.compute.v2.server import Server

from tests.lab.bounded import wait_until
from tests.lab.cloud.content import LUKS
from tests.lab.cloud.content import MULTIATTACH
from tests.lab.cloud.content import RAW_IMAGE
from tests.lab.cloud.content import volumes_to_boot_from
from tests.lab.cloud.options import Storage
from tests.lab.cloud.storage import OTHER_ZONE
from tests.lab.disks import Layer
from tests.openstack.base import DELETE_TIMEOUT
from tests.openstack.base import CloudTest

VOLUME_TIMEOUT = 120


class StorageTest(CloudTest):
    """Tests with disks in Ceph."""

    cloud_options: ClassVar[dict[str, Any]] = {'storage': Storage.CEPH}

    def disks(self, server: Server) -> dict[str, tuple[str, str]]:
        """What the guest has from Ceph by its targets, and as which user."""
        with self.domain(server) as domain:
            tree = ET.fromstring(domain.XMLDesc())
        found = {}
        for disk in tree.iterfind('devices/disk'):
            source, auth = disk.find('source'), disk.find('source/auth')
            if auth is None:
                auth = disk.find('auth')
            target = disk.find('target')
            if source is None or auth is None or target is None:
                continue
            self.assertEqual('rbd', source.get('protocol'))
            found[target.attrib['dev']] = (
                source.attrib['name'],
                auth.attrib['username'],
            )
        return found

    def assert_written(self, disk: str, earliest: int) -> None:
        """The guest's records are in Ceph.

        :param disk: its pool and name
        """
        path = self.directory / 'disk'
        rbd = self.cloud.ceph.rbd
        rbd('snap', 'create', f'{disk}@proof')
        try:
            rbd('export', f'{disk}@proof', path)
        finally:
            rbd('snap', 'rm', f'{disk}@proof')
        self.examine_file(Layer(path, 'raw'), earliest)


class VolumeTest(StorageTest):
    def test_a_guest_boots_from_a_volume_and_writes_to_it(self) -> None:
        image = self.demo.image.find_image(RAW_IMAGE, ignore_missing=False)
        server = self.boot(
            RAW_IMAGE,
            image_id='',
            block_device_mapping=volumes_to_boot_from(image.id),
        )
        try:
            [volume] = self.demo.compute.volume_attachments(server)
            name = f'volume-{volume.volume_id}'
            disk = f'volumes/{name}'
            self.assertEqual({'vda': (disk, 'cinder')}, self.disks(server))
            self.assert_written(disk, self.wait_for_records(server))
        finally:
            self.delete(server)
        wait_until(
            lambda: name not in self.cloud.ceph.rbd('ls', 'volumes').split(),
            'the volume to be gone',
            DELETE_TIMEOUT,
            0.5,
        )

    def test_volumes_of_each_kind_are_attached(self) -> None:
        volumes = [
            self._new_volume(volume_type=LUKS),
            self._new_volume(volume_type=MULTIATTACH),
            self._new_volume(availability_zone=OTHER_ZONE),
        ]
        server = self.boot()
        try:
            for volume in volumes:
                self.demo.compute.create_volume_attachment(
                    server.id, volume_id=volume
                )
                self._wait_for(volume, 'in-use')
            self.assertEqual(
                {
                    device: (f'volumes/volume-{volume}', 'cinder')
                    for device, volume in zip(
                        ('vdb', 'vdc', 'vdd'), volumes, strict=True
                    )
                },
                self.disks(server),
            )
            self._assert_nova_alone_can_detach(volumes[0])
        finally:
            self.delete(server)
        for volume in volumes:
            self._wait_for(volume, 'available')

    def _assert_nova_alone_can_detach(self, volume: str) -> None:
        """It says by a token of its own that it is Nova who asks."""
        # By its type it may be one of version 2.
        cinder: Any = self.demo.block_storage
        [attachment] = cinder.get_volume(volume).attachments
        self.assertRaises(
            sdk_exceptions.ConflictException,
            cinder.delete_attachment,
            attachment['attachment_id'],
        )

    def _new_volume(self, **attributes: str) -> str:
        """The id of one that is deleted after the test."""
        # As above.
        cinder: Any = self.demo.block_storage
        volume: str = cinder.create_volume(size=1, **attributes).id
        self.addCleanup(cinder.delete_volume, volume)
        self._wait_for(volume, 'available')
        return volume

    def _wait_for(self, volume: str, status: str) -> None:
        # As above.
        cinder: Any = self.demo.block_storage
        cinder.wait_for_status(
            cinder.get_volume(volume), status, ['error'], 0.3, VOLUME_TIMEOUT
        )


class RootDiskTest(StorageTest):
    cloud_options: ClassVar[dict[str, Any]] = {
        'storage': Storage.CEPH,
        'images_type': 'rbd',
    }

    def test_it_is_a_clone_of_the_image(self) -> None:
        image = self.demo.image.find_image(RAW_IMAGE, ignore_missing=False)
        server = self.new_server(RAW_IMAGE)
        disk = f'vms/{server.id}_disk'
        self.assertEqual({'vda': (disk, 'nova')}, self.disks(server))
        self.assertIn(f'images/{image.id}@', self.cloud.ceph.rbd('info', disk))
        self.assert_written(disk, self.wait_for_records(server))
