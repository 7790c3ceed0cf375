# SPDX-License-Identifier: Apache-2.0
"""libvirtd is restarted while a disk is read, and the guest runs on."""

from __future__ import annotations

import contextlib

import ddt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.host import Host
from nova_snapshot_driver.instance import Instance
from tests.unit import documents
from tests.unit import tables
from tests.unit.ways import DIRECT
from tests.unit.ways import WAYS
from tests.unit.ways import Way


@ddt.ddt
class RestartTest(testtools.TestCase):
    @tables.rows({name: (way,) for name, way in (WAYS | DIRECT).items()})
    def test_guest_is_given_back(self, way: Way) -> None:
        """By a connection to the new one, without another snapshot."""
        host = self.useFixture(way.host())
        way.prepare(host)
        before = host.before()
        first = host.connection

        def restart() -> None:
            host.connection = first.restart()

        host.data_plane.at_extract = restart
        driver = SnapshotDriver(
            host.conf, Host(first, lambda: host.connection), host.surroundings
        )
        with contextlib.suppress(exception.SnapshotError):
            driver.snapshot(
                host.context,
                Instance(documents.NAME),
                host.image,
                host.update_task_state,
            )
        self.assertEqual([], host.differences(before))
        image = host.glance.images.get(host.image)
        self.assertIn(image and image['status'], (None, 'active'))
