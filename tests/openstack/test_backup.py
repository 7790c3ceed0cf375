# SPDX-License-Identifier: Apache-2.0
"""Backups: snapshots of which Nova keeps the newest ones."""

from __future__ import annotations

from typing import Any

from openstack.image.v2.image import Image

from tests.openstack import base
from tests.openstack import bus
from tests.openstack.bus import Bus


class BackupTest(base.ServerTest):
    def backup(self, backup_type: str, rotation: int) -> Image:
        """Back the server up, and wait until that is done.

        :param rotation: how many of its type are to be kept
        """
        image = self.demo.compute.backup_server(
            self.server.id, f'{backup_type} backup', backup_type, rotation
        )
        self.addCleanup(self.admin.image.delete_image, image.id)
        self.wait_for_no_task(self.server.id)
        return image

    def backups(self) -> set[str]:
        """The ids of those that are there, and active."""
        found = self.demo.image.images(
            image_type='backup',
            instance_uuid=self.server.id,
            status='active',
        )
        return {image.id for image in found}

    def test_rotation(self) -> None:
        before = self.before(self.server)
        first = self.backup('daily', 2)
        weekly = self.backup('weekly', 1)
        second = self.backup('daily', 2)
        self.assertEqual({first.id, second.id, weekly.id}, self.backups())
        earliest = self.records(self.server)
        third = self.backup('daily', 2)
        self.wait_until_gone(first)
        self.assertEqual({second.id, third.id, weekly.id}, self.backups())
        self.assert_as_before(before)
        # By its type it may be one of version 1.
        image: Any = self.demo.image.get_image(third.id)
        self.assertEqual('daily backup', image.name)
        self.assertEqual('daily', image.properties['backup_type'])
        self.assertEqual('true', image.properties['snapshot_quiesced'])
        self.examine(image, earliest)

    def test_none_is_kept(self) -> None:
        images = [self.backup('daily', 1), self.backup('daily', 0)]
        for image in images:
            self.wait_until_gone(image)

    def test_task_states(self) -> None:
        with Bus(self.cloud.rabbit_url) as listener:
            self.backup('weekly', 1)
            found = listener.wait_for('instance.snapshot.end', self.server.id)
        self.assertEqual(
            ['image_backup', 'image_pending_upload', 'image_uploading', None],
            bus.task_states(found),
        )
