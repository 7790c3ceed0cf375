# SPDX-License-Identifier: Apache-2.0
"""Requests that nova-api answers before the driver is asked."""

from __future__ import annotations

from typing import ClassVar

from openstack import exceptions as sdk_exceptions
from openstack.compute.v2.server import Server

from tests.openstack.base import CloudTest


class RequestsTest(CloudTest):
    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        image = cls.demo.image.find_image('witness', ignore_missing=False)
        # What its guest does is of no interest here.
        cls.server = cls.start(image.id)
        cls.addClassCleanup(cls.delete, cls.server)

    def test_server_that_is_locked(self) -> None:
        """Nova takes it: a lock is against what changes a server."""
        self.demo.compute.lock_server(self.server.id)
        self.addCleanup(self.demo.compute.unlock_server, self.server.id)
        image = self.snapshot(self.server)
        self.assertEqual('backup', image.properties['snapshot_method'])

    def test_server_in_error(self) -> None:
        self.admin.compute.reset_server_state(self.server.id, 'error')
        self.addCleanup(
            self.admin.compute.reset_server_state, self.server.id, 'active'
        )
        self.assertRaises(
            sdk_exceptions.ConflictException,
            self.ask_for_snapshot,
            self.server,
        )

    def test_server_of_another_project(self) -> None:
        self.assertRaises(
            sdk_exceptions.NotFoundException,
            self.ask_for_snapshot,
            self.server,
            connection=self.cloud.connection('other'),
        )
