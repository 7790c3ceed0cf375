# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.snapshot.destination.glance_image import GlanceImage
from tests.unit.host import FakeHost


class GlanceImageTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.destination = GlanceImage(
            self.host.settings.destination,
            self.host.context,
            self.host.image,
        )

    def test_deleted_after_a_failure(self) -> None:
        with (
            testtools.ExpectedException(KeyError),
            self.destination.discarded_on_failure(),
        ):
            raise KeyError
        self.assertNotIn(self.host.image, self.host.glance.images)

    def test_left_alone_where_there_is_no_way_to_it(self) -> None:
        """The record stays for the caller, who may know another method."""
        with (
            testtools.ExpectedException(exception.NotSupported),
            self.destination.discarded_on_failure(),
        ):
            raise exception.NotSupported(domain='web-1', reason='-')
        self.assertIn(self.host.image, self.host.glance.images)
        self.assertEqual(0, self.host.context.accesses)

    def test_every_look_is_with_tokens_that_are_valid_then(self) -> None:
        self.destination.check()
        self.destination.check()
        self.assertEqual(
            ['t0ken-1', 't0ken-2'],
            [
                request.headers['X-Auth-Token']
                for request in self.host.glance.requests
                if request.path.endswith(self.host.image)
            ],
        )
