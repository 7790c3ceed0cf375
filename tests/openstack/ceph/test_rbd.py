# SPDX-License-Identifier: Apache-2.0
"""Servers whose root disk is in Ceph: inside it, or as a stream."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any
from typing import ClassVar

from openstack.image.v2.image import Image

from lab.bounded import wait_until
from lab.cloud.configuration import Overrides
from lab.cloud.content import RAW_IMAGE
from lab.cloud.options import Storage
from lab.disks import Layer
from tests.openstack import base
from tests.openstack.ceph.disks import disks_in_ceph
from tests.openstack.ceph.strays import strays
from tests.openstack.held import Phase
from tests.openstack.meanwhile import MeanwhileTest
from tests.openstack.test_states import AT_REST
from tests.openstack.test_states import BY_AGENT
from tests.openstack.test_states import PAUSED
from tests.openstack.test_states import SUSPENDED
from tests.openstack.test_states import StatesTest
from tests.openstack.test_states import property_of

#: The rights of Nova's user in Ceph where it may make no images for Glance.
READS = 'profile rbd pool=vms, profile rbd-read-only pool=images'

SETTLE_TIMEOUT = 60

#: Seconds for which Ceph is full.
FULL = 10


class CephTest(base.CloudTest):
    """The common parts of the tests of this module."""

    cloud_options: ClassVar[dict[str, Any]] = {
        'storage': Storage.CEPH,
        'images_type': 'rbd',
    }

    def download(self, image: Image) -> Layer:
        """Copy an image from Ceph: the API takes long for a raw one."""
        path = self.directory / image.id
        self.cloud.ceph.rbd('export', f'images/{image.id}@snap', path)
        return Layer(path, image.disk_format)

    @classmethod
    def make_image(cls) -> str | Image:
        return RAW_IMAGE

    def setUp(self) -> None:
        super().setUp()
        self._strays = strays(self.cloud.ceph, self.admin.image)

    def assert_as_before(self, before: Any) -> None:
        """Nor has any left anything in Ceph."""
        super().assert_as_before(before)
        self.assertEqual(set(), self.left_in_ceph())

    def left_in_ceph(self) -> set[str]:
        """The remains of this test in Ceph."""
        return strays(self.cloud.ceph, self.admin.image) - self._strays


class DirectTest(CephTest, StatesTest):
    """Inside Ceph, whatever the server does."""

    def test_active(self) -> None:
        self.prove_and_boot(
            'ACTIVE',
            disk_format='raw',
            snapshot_method='direct',
            snapshot_method_reason='the root disk is in Ceph',
            snapshot_quiesced='true',
            snapshot_quiesced_reason=BY_AGENT,
        )

    def test_paused(self) -> None:
        self.prove(
            'PAUSED',
            snapshot_method='direct',
            snapshot_quiesced='false',
            snapshot_quiesced_reason=PAUSED,
        )

    def test_suspended(self) -> None:
        self.prove(
            'SUSPENDED',
            snapshot_method='direct',
            snapshot_quiesced_reason=SUSPENDED,
        )

    def test_shut_off(self) -> None:
        _image, evidence = self.prove(
            'SHUTOFF',
            snapshot_method='direct',
            snapshot_quiesced_reason=AT_REST,
        )
        self.assertFalse(evidence.journal_replayed)

    def test_image_needs_its_server_no_more(self) -> None:
        """The image is flat, and Glance deletes its data with it."""
        server = self.new_server(RAW_IMAGE)
        image = self.snapshot(server)
        name = f'images/{image.id}'
        rbd = self.cloud.ceph.rbd
        self.delete(server)
        self.assertNotIn(f'{server.id}_disk', rbd('ls', 'vms'))
        self.assertNotIn(
            'parent', json.loads(rbd('info', name, '--format', 'json'))
        )
        self.examine(image, 1)
        self.admin.image.delete_image(image.id)
        wait_until(
            lambda: image.id not in rbd('ls', 'images').split(),
            'Glance to delete the data of the image',
            SETTLE_TIMEOUT,
            0.5,
        )

    def test_disk_is_a_clone_of_the_image(self) -> None:
        disk = f'vms/{self.server.id}_disk'
        with self.domain(self.server) as domain:
            self.assertEqual({'vda': (disk, 'nova')}, disks_in_ceph(domain))
        self.assertIn(
            f'images/{self.server.image.id}@',
            self.cloud.ceph.rbd('info', disk),
        )

    def test_size_is_that_of_the_disk(self) -> None:
        image = self.snapshot(self.server)
        disk = json.loads(
            self.cloud.ceph.rbd(
                'info', f'vms/{self.server.id}_disk', '--format', 'json'
            )
        )
        self.assertEqual(disk['size'], image.size)


class StreamTest(CephTest, StatesTest):
    """No clone can be made, and no guest is suspended for that.

    Nova's own driver suspends one that runs, and converts its disk.
    """

    def stream(self, status: str, method: str) -> None:
        with self.cloud.ceph.restricted('nova', READS):
            log = self.cloud.log('nova-compute')
            image, _evidence = self.prove(
                status, disk_format='raw', snapshot_method=method
            )
        self.assertIn(
            'no image inside Ceph: it is refused',
            property_of(image, 'snapshot_method_reason'),
        )
        self.assertNotEqual([], log.grep('not permitted'))
        self.assertEqual([], log.grep('Suspended'))

    def test_active(self) -> None:
        self.stream('ACTIVE', 'backup')

    def test_shut_off(self) -> None:
        """The disk is read through librbd."""
        self.stream('SHUTOFF', 'cold')


class FormatTest(CephTest, StatesTest):
    """Another format than raw is wanted, which no clone in Ceph can have.

    Nova's own driver makes a raw image all the same, and calls it qcow2.
    """

    nova_compute: ClassVar[Overrides] = {
        ('libvirt', 'snapshot_image_format'): 'qcow2',
    }

    def download(self, image: Image) -> Layer:
        """Have the image from Glance, as its users do."""
        return base.CloudTest.download(self, image)

    def test_active(self) -> None:
        image, _evidence = self.prove(
            'ACTIVE', disk_format='qcow2', snapshot_method='backup'
        )
        self.assertIn(
            'no image inside Ceph: it would be raw',
            property_of(image, 'snapshot_method_reason'),
        )


class FlattenTest(CephTest, MeanwhileTest):
    """Events while Ceph copies."""

    @classmethod
    def boot_several(cls, number: int) -> list[Any]:
        servers = [cls.boot(RAW_IMAGE) for _ in range(number)]
        for server in servers:
            cls.addClassCleanup(cls.delete, server)
        return servers

    def test_server_is_deleted(self) -> None:
        """Nova can delete the disk: it has no snapshot any more."""
        server = self.new_server(RAW_IMAGE)
        image = self.ask_for_snapshot(server)
        wait_until(
            lambda: bool(self.data_plane()),
            'the flatten to begin',
            SETTLE_TIMEOUT,
            0.01,
        )
        self.delete(server)
        self.wait_until_gone(image)
        self.assertEqual(set(), self.left_in_ceph())
        self.assertNotIn(server.id, self.cloud.ceph.rbd('ls', 'vms'))

    def test_ceph_is_full(self) -> None:
        """For a while: what is copied then waits, as the guest does."""
        before = self.before(self.server)
        with contextlib.ExitStack() as full:
            with self.held(Phase.EXTRACT, self.server) as image:
                full.enter_context(self.cloud.ceph.full())
            time.sleep(FULL)
        self.wait_for_no_task(self.server.id)
        found: Any = self.admin.image.find_image(image.id)
        if found is not None:
            self.examine(self.wait_for_image(found), 1)
        self.assert_as_before(before)
        self.wait_for_records(self.server)
