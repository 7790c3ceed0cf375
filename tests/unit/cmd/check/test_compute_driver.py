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
            'ours': ('snapshot_driver.LibvirtSnapshotDriver', 'ok'),
            'upstream': ('libvirt.LibvirtDriver', 'note'),
            'not_set': ('', 'note'),
            'other_hypervisor': ('ironic.IronicDriver', 'note'),
            'class_alone': ('LibvirtSnapshotDriver', 'bad'),
            'module_alone': ('snapshot_driver', 'bad'),
            'package': (
                'nova_snapshot_driver.nova.compute.LibvirtSnapshotDriver',
                'bad',
            ),
            'full_path': (
                'nova.virt.snapshot_driver.LibvirtSnapshotDriver',
                'bad',
            ),
            'typo': ('snapshot_driver.LibvirtSnapshotDrver', 'bad'),
            'case': ('snapshot_driver.libvirtsnapshotdriver', 'bad'),
            'upstream_of_long_ago': ('libvirt.driver.LibvirtDriver', 'bad'),
        }
    )
    def test_verdict(self, value: str, verdict: str) -> None:
        finding = compute_driver.finding(value, ['/etc/nova/nova.conf'])
        self.assertEqual(
            ('compute_driver', verdict), (finding.subject, finding.verdict)
        )
        self.assertIn(value, finding.detail)
        if verdict == 'bad':
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
