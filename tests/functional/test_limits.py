# SPDX-License-Identifier: Apache-2.0
"""The limits of a snapshot: its use of the host, and its time."""

from __future__ import annotations

import os
import time

from lab.bounded import run
from lab.disks import Layer
from lab.options import GuestOptions
from nova_snapshot_driver import exception
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from tests import processes
from tests.functional import base
from tests.functional import machine

MIB = 1 << 20

#: Seconds
TIMEOUT = 60

#: Of the data plane, for any disk.
MOST_MEMORY = 150 * MIB


class GuestTest(base.SnapshotTest):
    options = GuestOptions('limits')

    def test_bandwidth(self) -> None:
        limit = 24
        snapshot, _image = self.snapshot(self.driver(bandwidth=limit))
        self.assertTrue(snapshot.streamed)
        rate = snapshot.size / MIB / snapshot.seconds['stream']
        self.assertLess(rate, limit * 1.2)
        # The bandwidth is used, too: as far as a busy host allows.
        self.assertGreater(rate, limit / 4)
        self.guest.still_counts()

    def test_deadline(self) -> None:
        began = time.monotonic()
        self.snapshot_fails(
            exception.DeadlineExceeded, self.driver(bandwidth=4, deadline=3)
        )
        self.assertLess(time.monotonic() - began, 12)
        self.guest.still_counts()

    def test_nice_and_ionice(self) -> None:
        seen = set()

        def look(step: str, done: int, total: int) -> None:
            pid = processes.data_plane()
            if pid is not None:
                seen.add(
                    (
                        os.getpriority(os.PRIO_PROCESS, pid),
                        run(['ionice', '-p', str(pid)], timeout=TIMEOUT),
                    )
                )

        self.snapshot(
            self.driver(bandwidth=24, nice=7, ionice='idle'), progress=look
        )
        own = os.getpriority(os.PRIO_PROCESS, 0)
        self.assertEqual({(min(own + 7, 19), 'idle\n')}, seen)


class DiskTest(base.HostTest):
    """The size of a disk costs neither memory nor time."""

    def take(
        self,
        disk: Layer,
        image_format: str | None = None,
        compression: bool = False,
    ) -> tuple[Snapshot, int]:
        """The snapshot of a running machine, and the memory it has taken."""
        domain = self.connection.createXML(
            machine.machine_xml('limits-disk', disk)
        )
        peak = 0

        def look(step: str, done: int, total: int) -> None:
            nonlocal peak
            pid = processes.data_plane()
            if pid is not None:
                peak = max(peak, processes.peak_memory(pid))

        image = self.output / 'image'
        try:
            snapshot = self.driver(
                image_format=image_format,
                compression=compression,
                scratch_reserve=16,
            ).snapshot_to_file(
                Instance('limits-disk'), str(image), progress=look
            )
        finally:
            domain.destroy()
            image.unlink(missing_ok=True)
        self.assertEqual('backup', snapshot.method)
        self.assertTrue(snapshot.streamed)
        return snapshot, peak

    def test_memory(self) -> None:
        disk = Layer(self.directory / 'disk', 'raw')
        block = os.urandom(MIB // 2) + b'text' * (MIB // 8)
        with disk.path.open('wb') as file:
            for _ in range(500):
                file.write(block)
        for compression in (False, True):
            snapshot, peak = self.take(
                disk, image_format='qcow2', compression=compression
            )
            self.assertGreater(snapshot.size, 200 * MIB)
            self.assertGreater(peak, 0)
            self.assertLess(peak, MOST_MEMORY)

    def test_empty_disk(self) -> None:
        for size in ('1G', '2T'):
            disk = Layer(self.directory / size, 'qcow2')
            run(
                ['qemu-img', 'create', '-q', '-f', 'qcow2', disk.path, size],
                timeout=TIMEOUT,
            )
            snapshot, peak = self.take(disk)
            self.assertLess(peak, MOST_MEMORY)
            # An image that was read in full would have all of its metadata.
            self.assertLess(snapshot.size, MIB)
