# SPDX-License-Identifier: Apache-2.0
"""The metrics of nova-compute's snapshots, for Prometheus."""

from __future__ import annotations

import pathlib
import time

from nova import exception as nova_exception

from nova_snapshot_driver import exception
from nova_snapshot_driver.nova.errors import SnapshotFailed
from tests.nova.host import ComputeCase
from tests.nova.keystone import FakeKeystone

#: How long the thread that writes may take, in seconds.
PATIENCE = 10


class MetricsTest(ComputeCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(FakeKeystone()).configure()
        self.path = pathlib.Path(self.host.root) / 'nova_snapshot.prom'
        self.host.set('snapshot', 'metrics_file', str(self.path))
        self.host.compute.init_host('a-host')

    def wait_for(self, *lines: str) -> None:
        deadline = time.monotonic() + PATIENCE
        missing = set(lines)
        while missing:
            self.assertLess(
                time.monotonic(), deadline, f'not there: {missing}'
            )
            time.sleep(0.005)
            if self.path.exists():
                missing = set(lines) - set(self.path.read_text().splitlines())

    def test_taken(self) -> None:
        self.host.take()
        self.wait_for(
            'nova_snapshot_running 0.0',
            'nova_snapshot_done_total{method="backup"} 1.0',
            'nova_snapshot_done_total{method="mirror"} 0.0',
            'nova_snapshot_duration_seconds_count{method="backup"} 1.0',
            'nova_snapshot_stall_seconds_count{method="backup"} 1.0',
        )

    def test_failed(self) -> None:
        def strike() -> None:
            raise exception.SourceUnreadable(reason='I/O error')

        self.host.data_plane.at_extract = strike
        self.assertRaises(SnapshotFailed, self.host.take)
        self.wait_for(
            'nova_snapshot_running 0.0',
            'nova_snapshot_failed_total{code="source-unreadable",'
            'method="backup"} 1.0',
        )

    def test_failed_before_there_was_a_path(self) -> None:
        self.host.glance.images.clear()
        self.assertRaises(nova_exception.ImageNotFound, self.host.take)
        self.wait_for(
            'nova_snapshot_failed_total{code="image-not-found",'
            'method="none"} 1.0',
        )

    def test_refused_path(self) -> None:
        """The snapshot counts by the method that was used at last."""
        self.host.machine.refusals['backupBegin'] = 1
        self.host.take()
        self.wait_for('nova_snapshot_done_total{method="mirror"} 1.0')

    def test_recovered(self) -> None:
        self.host.die_in_mid_stream()
        self.host.compute.init_host('a-host')
        self.wait_for('nova_snapshot_recovered_total 1.0')

    def test_left_to_nova(self) -> None:
        self.host.set('libvirt', 'virt_type', 'lxc')
        self.host.take()
        self.wait_for('nova_snapshot_left_to_nova_total 1.0')
