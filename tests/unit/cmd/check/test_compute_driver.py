# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ddt
import testtools

from nova_snapshot_driver.cmd.check import compute_driver
from tests.unit import tables

LINE = 'compute_driver = snapshot_driver.LibvirtSnapshotDriver'


@ddt.ddt
class ComputeDriverTest(testtools.TestCase):
    @tables.rows(
        {
            'ours': ('snapshot_driver.LibvirtSnapshotDriver', 'SUCCESS'),
            'upstream': ('libvirt.LibvirtDriver', 'WARNING'),
            'not_set': ('', 'WARNING'),
            'other_hypervisor': ('ironic.IronicDriver', 'WARNING'),
            'class_alone': ('LibvirtSnapshotDriver', 'FAILURE'),
            'module_alone': ('snapshot_driver', 'FAILURE'),
            'package': (
                'nova_snapshot_driver.nova.compute.LibvirtSnapshotDriver',
                'FAILURE',
            ),
            'full_path': (
                'nova.virt.snapshot_driver.LibvirtSnapshotDriver',
                'FAILURE',
            ),
            'typo': ('snapshot_driver.LibvirtSnapshotDrver', 'FAILURE'),
            'case': ('snapshot_driver.libvirtsnapshotdriver', 'FAILURE'),
            'upstream_of_long_ago': (
                'libvirt.driver.LibvirtDriver',
                'FAILURE',
            ),
        }
    )
    def test_verdict(self, value: str, verdict: str) -> None:
        finding = compute_driver.finding(value, ['/etc/nova/nova.conf'])
        self.assertEqual(
            ('compute_driver', verdict), (finding.subject, finding.verdict)
        )
        self.assertIn(value, finding.detail)
        if verdict == 'FAILURE':
            self.assertIn(f'nova.virt.{value},', finding.detail)
            self.assertIn(LINE, finding.detail)

    @tables.rows({'upstream': ('libvirt.LibvirtDriver',), 'not_set': ('',)})
    def test_how_to_have_it(self, value: str) -> None:
        self.assertIn(LINE, compute_driver.finding(value, []).detail)

    def test_what_was_read(self) -> None:
        finding = compute_driver.finding('', ['/a/nova.conf', '/b/more.conf'])
        self.assertIn('/a/nova.conf, /b/more.conf', finding.detail)

    @tables.rows(
        {
            'ours': ('snapshot_driver.LibvirtSnapshotDriver', True),
            'typo': ('snapshotdriver.LibvirtSnapshotDriver', True),
            'upstream': ('libvirt.LibvirtDriver', False),
            'other_hypervisor': ('vmwareapi.VMwareVCDriver', False),
            'not_set': ('', False),
        }
    )
    def test_is_meant(self, value: str, meant: bool) -> None:
        self.assertEqual(meant, compute_driver.is_meant(value))
