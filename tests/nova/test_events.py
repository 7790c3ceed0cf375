# SPDX-License-Identifier: Apache-2.0
"""The events in the log that nova-compute alone has."""

from __future__ import annotations

from nova_snapshot_driver import exception
from nova_snapshot_driver.nova.errors import SnapshotFailed
from tests.nova.host import ComputeCase
from tests.unit import documents
from tests.unit.common import test_events


class EventsTest(ComputeCase):
    def test_failed(self) -> None:
        def strike() -> None:
            raise exception.SourceUnreadable(reason='I/O error')

        self.host.data_plane.at_extract = strike
        records = test_events.collected(self)
        self.assertRaises(SnapshotFailed, self.host.take)
        test_events.assert_as_described(self, records)
        self.assertEqual('snapshot.failed', records.names()[-1])
        last = records.records[-1].__dict__
        self.assertEqual('source-unreadable', last['code'])
        self.assertEqual(self.host.image, last['image'])
        self.assertEqual(documents.UUID, last['instance_uuid'])

    def test_left_to_nova(self) -> None:
        self.host.set('libvirt', 'virt_type', 'lxc')
        records = test_events.collected(self)
        self.host.take()
        test_events.assert_as_described(self, records)
        self.assertEqual(['snapshot.left-to-nova'], records.names())
