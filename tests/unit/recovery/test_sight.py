# SPDX-License-Identifier: Apache-2.0
"""Images that Glance does not show to whoever looks after a dead snapshot.

Glance says of them what it says of images that were deleted.
"""

from __future__ import annotations

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.rbd import Clone
from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.recovery import dead_snapshot
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings.ceph_clone import CephClone
from nova_snapshot_driver.takings.cinder_snapshots import CinderSnapshots
from nova_snapshot_driver.takings.glance_image import UnfinishedImage
from nova_snapshot_driver.takings.taking import Taking
from tests.unit import documents
from tests.unit import tables
from tests.unit.host import RBD_DEVICES
from tests.unit.host import FakeHost

IMAGE = '5f2c9d54-1c57-4b8e-8f49-3f6f0fd1a1b2'
VOLUME = '0c8e5d0e-94c1-4a3f-8d54-0d3c2f6f7a11'
PROJECT = '1b7c3d5e6f7a4b8c9d0e1f2a3b4c5d6e'
CLONE = Clone(
    RbdImage('vms', 'disk'), 'nova-snapshot-1', RbdImage('images', IMAGE), 'f'
)


@ddt.ddt
class HiddenTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost(RBD_DEVICES))
        self.journal = Journal(self.host.directories.state)
        self.host.ceph.add('images', IMAGE)

    def remember(self, *takings: Taking) -> Entry:
        entry = Entry(documents.NAME, documents.UUID, takings)
        self.journal.remember(entry)
        return entry

    def heal(self) -> list[exception.SnapshotError]:
        return dead_snapshot.heal(
            self.host.guest(),
            self.journal,
            self.host.settings.undo,
            self.host.context,
        ).errors

    @tables.rows(
        {
            'another_project': (PROJECT, f'the project {PROJECT}'),
            'former_entry': (None, 'an unknown project'),
        }
    )
    def test_nothing_is_touched(self, project: str | None, words: str) -> None:
        entry = self.remember(
            CinderSnapshots(IMAGE, (VOLUME,), project),
            UnfinishedImage(IMAGE, project),
            CephClone(CLONE),
        )
        self.host.context.hidden = {project}
        errors = self.heal()
        self.assertEqual(
            {'image-left-behind'}, {error.code for error in errors}
        )
        self.assertIn(words, str(errors[0]))
        self.assertIn(('images', IMAGE), self.host.ceph.images)
        self.assertEqual(entry, self.journal.recall(documents.UUID))

    def test_next_snapshot_is_taken(self) -> None:
        """The image of another project is in nobody's way."""
        self.remember(UnfinishedImage(IMAGE, PROJECT), CephClone(CLONE))
        self.host.context.hidden = {PROJECT}
        self.host.snapshot()
        self.assertIn(('images', IMAGE), self.host.ceph.images)

    def test_seen(self) -> None:
        self.remember(UnfinishedImage(IMAGE, PROJECT), CephClone(CLONE))
        self.assertEqual([], self.heal())
        self.assertNotIn(('images', IMAGE), self.host.ceph.images)
        self.assertIsNone(self.journal.recall(documents.UUID))

    def test_nobody_says_who_asks(self) -> None:
        def fail(_project: str | None) -> bool:
            raise exception.KeystoneUnavailable(reason='no token')

        self.remember(UnfinishedImage(IMAGE, PROJECT), CephClone(CLONE))
        self.useFixture(
            fixtures.MockPatchObject(self.host.context, 'sees', fail)
        )
        self.assertIn('no token', str(self.heal()[0]))
        self.assertIn(('images', IMAGE), self.host.ceph.images)

    def test_project_of_the_image(self) -> None:
        """A snapshot notes whose image it makes."""
        image = self.host.glance.add(owner=PROJECT)
        found: list[Entry | None] = []
        self.host.data_plane.at_extract = lambda: found.append(
            self.journal.recall(documents.UUID)
        )
        self.host.image = image
        self.host.snapshot()
        (entry,) = found
        assert entry is not None
        self.assertEqual(
            [UnfinishedImage(image, PROJECT)], entry.of_kind(UnfinishedImage)
        )
