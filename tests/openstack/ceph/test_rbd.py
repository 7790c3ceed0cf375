# SPDX-License-Identifier: Apache-2.0
"""Servers whose root disk is in Ceph: inside it, or as a stream."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any
from typing import ClassVar

from openstack.image.v2.image import Image

from tests.lab.bounded import wait_until
from tests.lab.cloud.configuration import Overrides
from tests.lab.cloud.content import RAW_IMAGE
from tests.lab.cloud.options import Storage
from tests.lab.disks import Layer
from tests.lab.witness import WitnessImage
from tests.openstack import base
from tests.openstack.ceph.strays import strays
from tests.openstack.held import Phase
from tests.openstack.meanwhile import MeanwhileTest
from tests.openstack.test_states import AT_REST
from tests.openstack.test_states import BY_AGENT
from tests.openstack.test_states import PAUSED
from tests.openstack.test_states import SUSPENDED
from tests.openstack.test_states import StatesTest
from tests.openstack.test_states import property_of

#: What the user of Nova may do in Ceph where it may make no images for Glance.
READS = 'profile rbd pool=vms, profile rbd-read-only pool=images'

SETTLE_TIMEOUT = 60

#: Seconds for which Ceph is full.
FULL = 10


class CephTest(base.CloudTest):
    """What all tests of this module share."""

    cloud_options: ClassVar[dict[str, Any]] = {
        'storage': Storage.CEPH,
        'images_type': 'rbd',
    }

    def download(self, image: Image) -> Layer:
        """What lies in Ceph: through the API a raw one takes its time."""
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
        """What this test has left there."""
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
        evidence = self.prove_and_boot(
            'SHUTOFF',
            snapshot_method='direct',
            snapshot_quiesced_reason=AT_REST,
        )
        self.assertFalse(evidence.journal_replayed)

    def test_image_needs_its_server_no_more(self) -> None:
        """It is flat, and Glance deletes its data with it."""
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

    def test_size_is_that_of_the_disk(self) -> None:
        image = self.snapshot(self.server)
        disk = json.loads(
            self.cloud.ceph.rbd(
                'info', f'vms/{self.server.id}_disk', '--format', 'json'
            )
        )
        self.assertEqual(disk['size'], image.size)


class RequiredTest(CephTest, StatesTest):
    """A freeze that is required can be had, unlike with Nova's own driver."""

    @classmethod
    def make_image(cls) -> Image:
        return cls.upload(
            filename=str(WitnessImage.build().base_raw),
            disk_format='raw',
            os_require_quiesce='yes',
            hw_qemu_guest_agent='yes',
        )

    def test_active(self) -> None:
        self.prove(
            'ACTIVE', snapshot_method='direct', snapshot_quiesced='true'
        )

    def test_freeze_that_fails(self) -> None:
        self.run_in_guest(self.server, 'touch /run/fail-freeze')
        self.assert_refused('ACTIVE', 'freeze the file systems')


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
            'not permitted', property_of(image, 'snapshot_method_reason')
        )
        self.assertEqual([], log.grep('Suspended'))

    def test_active(self) -> None:
        self.stream('ACTIVE', 'backup')

    def test_paused(self) -> None:
        self.stream('PAUSED', 'backup')

    def test_shut_off(self) -> None:
        """Its disk is read through librbd."""
        self.stream('SHUTOFF', 'cold')


class FormatTest(CephTest, StatesTest):
    """The image is what it says that it is."""

    nova_compute: ClassVar[Overrides] = {
        ('libvirt', 'snapshot_image_format'): 'qcow2',
    }

    def download(self, image: Image) -> Layer:
        return super(CephTest, self).download(image)

    def test_active(self) -> None:
        self.prove('ACTIVE', disk_format='qcow2', snapshot_method='backup')

    def test_shut_off(self) -> None:
        self.prove('SHUTOFF', disk_format='qcow2', snapshot_method='cold')


class FlattenTest(CephTest, MeanwhileTest):
    """What may happen while Ceph copies."""

    @classmethod
    def boot_several(cls, number: int) -> list[Any]:
        servers = [cls.boot(RAW_IMAGE) for _ in range(number)]
        for server in servers:
            cls.addClassCleanup(cls.delete, server)
        return servers

    def test_nova_compute_is_killed(self) -> None:
        """Its next start removes the clone, and the snapshot of the disk."""
        self.kill_while(Phase.EXTRACT)

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

    def test_image_is_deleted(self) -> None:
        before = self.before(self.server)
        with self.held(Phase.EXTRACT, self.server) as image:
            self.demo.image.delete_image(image.id)
        self.assert_image_was_deleted(image, before)

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
