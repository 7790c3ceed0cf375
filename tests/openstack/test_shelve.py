# SPDX-License-Identifier: Apache-2.0
"""Servers that are put on a shelf, as a snapshot, and taken from it."""

from __future__ import annotations

import itertools
import os
from typing import Any

from openstack import exceptions as sdk_exceptions
from openstack.image.v2.image import Image

from tests.openstack import base
from tests.openstack import bus
from tests.openstack.bus import Bus


class ShelveTest(base.ServerTest):
    def shelved_image(self) -> Image:
        # By its type it may be one of version 1.
        glance: Any = self.demo.image
        [image] = glance.images(name=f'{self.server.name}-shelved')
        found: Image = image
        return found

    def test_shelve(self) -> None:
        earliest = self.records(self.server)
        with Bus(self.cloud.rabbit_url) as listener:
            self.demo.compute.shelve_server(self.server.id)
            # Nova takes it off its host at once, by default.
            self.wait_for_status(self.server, 'SHELVED_OFFLOADED')
            found = listener.wait_for(
                'instance.shelve_offload.end', self.server.id
            )
        # The domain has no disk any more.
        self.assertRaises(
            sdk_exceptions.ConflictException,
            self.ask_for_snapshot,
            self.server,
        )
        self.assertEqual(
            [
                'shelving',
                'shelving_image_pending_upload',
                'shelving_image_uploading',
                'shelving_offloading',
                None,
            ],
            bus.task_states(found),
        )
        self.assert_nothing_is_left()
        image = self.shelved_image()
        self.assertEqual('active', image.status)
        self.assertEqual('private', image.visibility)
        self.assertEqual('cold', image.properties['snapshot_method'])
        evidence = self.examine(image, earliest)
        # The guest was shut down before.
        self.assertFalse(evidence.journal_replayed)

        self.demo.compute.unshelve_server(self.server.id)
        self.wait_for_status(self.server, 'ACTIVE')
        self.wait_for_records(self.server)
        self.assertGreater(self.records(self.server), evidence.records)
        self.wait_until_gone(image)

    def assert_nothing_is_left(self) -> None:
        """Nothing is left of the server, nor of its snapshot."""
        with self.hypervisor() as connection:
            domains = [
                domain.UUIDString() for domain in connection.listAllDomains()
            ]
        self.assertNotIn(self.server.id, domains)
        left = itertools.chain(
            os.listdir(self.directories.snapshots),
            os.listdir(self.directories.state),
        )
        self.assertEqual(
            [], [name for name in left if not name.endswith('.lock')]
        )
