# SPDX-License-Identifier: Apache-2.0
"""libvirtd is restarted, and the guest runs on."""

from __future__ import annotations

import contextlib

import ddt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.hypervisor.libvirt_errors import MOST_NAMES_TAKEN
from nova_snapshot_driver.snapshot.plan.instance import Instance
from tests.unit import documents
from tests.unit import tables
from tests.unit.host import FakeHost
from tests.unit.ways import DIRECT
from tests.unit.ways import WAYS
from tests.unit.ways import Way


@ddt.ddt
class RestartTest(testtools.TestCase):
    """While a disk is read."""

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
            host.settings,
            Host(first, lambda: host.connection),
            host.environment,
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


@ddt.ddt
class NamesTest(testtools.TestCase):
    """Before, in the midst of a call: QEMU has nodes that libvirt forgot."""

    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.before = self.host.before()

    @tables.rows({path: (path,) for path in ('backup', 'mirror')})
    def test_next_names_are_free(self, path: str) -> None:
        self.host.set('snapshot', 'method', path)
        self.host.machine.names_taken = MOST_NAMES_TAKEN
        snapshot = self.host.snapshot()
        self.assertEqual(path, snapshot.method)
        self.assertEqual([], self.host.differences(self.before))

    @tables.rows(
        {
            'backup': ('backup', exception.BackupRefused),
            'mirror': ('mirror', exception.HypervisorError),
        }
    )
    def test_none_is_free(
        self, path: str, error: type[exception.SnapshotError]
    ) -> None:
        self.host.set('snapshot', 'method', path)
        self.host.machine.names_taken = MOST_NAMES_TAKEN + 1
        raised = self.assertRaises(error, self.host.snapshot)
        self.assertIn('Duplicate nodes', str(raised))
        self.assertEqual([], self.host.differences(self.before))
