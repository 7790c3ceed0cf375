# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from xml.etree import ElementTree

import testtools

from nova_snapshot_driver.hypervisor import backup_xml
from nova_snapshot_driver.hypervisor.backup_xml import Place
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.domain import Disk

PLACE = Place('/run/s', '/scratch')
PLAIN = Disk('vda', 'file', 'qcow2', '/disk')
ENCRYPTED = Disk('vdb', 'file', 'raw', '/b', encrypted=True, secret='a-uuid')


class DocumentTest(testtools.TestCase):
    def test_several_disks(self) -> None:
        text = backup_xml.document([PLAIN, ENCRYPTED], PLACE)
        self.assertEqual('/run/s', backup_xml.socket_of(text))
        self.assertEqual(['vda', 'vdb'], backup_xml.disks_of(text))
        disks = ElementTree.fromstring(text).findall('disks/disk')
        self.assertEqual(
            [
                ('vda', '/scratch/scratch-vda', None),
                ('vdb', '/scratch/scratch-vdb', 'a-uuid'),
            ],
            [
                (
                    disk.get('exportname'),
                    disk.find('scratch').get('file'),  # type: ignore[union-attr]
                    None
                    if (secret := disk.find('scratch/encryption/secret'))
                    is None
                    else secret.get('uuid'),
                )
                for disk in disks
            ],
        )

    def test_increment(self) -> None:
        """The disk of the bitmap alone is incremental."""
        text = backup_xml.document(
            [PLAIN, ENCRYPTED], PLACE, Bitmap('vda', 'a-bitmap')
        )
        self.assertEqual(
            [
                ('vda', 'incremental', 'a-bitmap', 'changes-vda'),
                ('vdb', None, None, None),
            ],
            [
                tuple(
                    disk.get(name)
                    for name in (
                        'name',
                        'backupmode',
                        'incremental',
                        'exportbitmap',
                    )
                )
                for disk in ElementTree.fromstring(text).findall('disks/disk')
            ],
        )
