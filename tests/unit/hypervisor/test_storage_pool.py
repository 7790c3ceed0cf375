# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ddt
import libvirt
import testtools

from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.hypervisor import storage_pool
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.domain import Volume
from tests.unit import tables

POOL = """\
<pool type='{}'>
  <name>pool</name>
  <source><name>vms</name>{}</source>
  <target><path>/pool</path></target>
</pool>
"""

CEPH = (
    "<host name='10.0.0.1'/><auth type='ceph' username='nova'>"
    "<secret uuid='457eb676-33da-42ec-9a8c-9293d545c337'/></auth>"
)

VOLUME = """\
<volume>
  <name>a disk</name>
  <capacity unit='MiB'>8</capacity>
  <allocation unit='MiB'>1</allocation>
</volume>
"""


@ddt.ddt
class LocatedTest(testtools.TestCase):
    """Storage pools of libvirt's own driver for tests."""

    def setUp(self) -> None:
        super().setUp()
        # libvirt prints every error to stderr, unless it is told where to.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        self.connection = libvirt.open('test:///default')
        self.addCleanup(self.connection.close)

    def create(self, kind: str, source: str = '') -> libvirt.virStoragePool:
        pool = self.connection.storagePoolCreateXML(POOL.format(kind, source))
        self.addCleanup(pool.destroy)
        pool.createXML(VOLUME)
        return pool

    def located(self, volume: str = 'a disk') -> Disk:
        disk = Disk(
            'vda', 'volume', 'qcow2', None, volume=Volume('pool', volume)
        )
        return storage_pool.located(self.connection, disk)

    def refused(self, volume: str = 'a disk') -> str:
        disk = self.located(volume)
        self.assertIsNone(disk.path)
        (refusal,) = disk.refusals
        self.assertIn(f'pool/{volume}', str(refusal))
        return str(refusal)

    def test_file(self) -> None:
        self.create('dir')
        disk = self.located()
        self.assertEqual('file', disk.source)
        self.assertEqual('/pool/a disk', disk.path)
        self.assertEqual('qcow2', disk.format)
        self.assertEqual((), disk.refusals)

    def test_image_in_ceph(self) -> None:
        self.create('rbd', CEPH)
        disk = self.located()
        self.assertEqual('network', disk.source)
        self.assertEqual(RbdImage('vms', 'a disk', 'nova'), disk.rbd)
        self.assertIsNone(disk.path)

    @tables.rows({kind: (kind,) for kind in ('gluster', 'mpath')})
    def test_pool_of_another_kind(self, kind: str) -> None:
        source = "<host name='a'/><dir path='/'/>" if kind == 'gluster' else ''
        self.create(kind, source)
        self.assertIn(f'type {kind}', self.refused())

    def test_no_pool(self) -> None:
        self.assertIn('no storage pool', self.refused())

    def test_pool_is_not_active(self) -> None:
        self.connection.storagePoolDefineXML(POOL.format('dir', '')).info()
        self.assertIn('is not active', self.refused())

    def test_no_volume(self) -> None:
        self.create('dir')
        self.assertIn('no storage vol', self.refused('another'))

    def test_libvirt_without_pools(self) -> None:
        connection = libvirt.open('test:///default')
        connection.close()
        disk = Disk('vda', 'volume', 'raw', None, volume=Volume('pool', 'x'))
        refused = storage_pool.located(connection, disk)
        self.assertEqual(1, len(refused.refusals))
