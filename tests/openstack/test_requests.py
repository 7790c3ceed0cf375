# SPDX-License-Identifier: Apache-2.0
"""Requests that nova-api answers before the driver is asked."""

from __future__ import annotations

from typing import Any
from typing import ClassVar

import ddt
from openstack import exceptions as sdk_exceptions
from openstack.compute.v2.server import Server

from tests.openstack.base import BOOT_TIMEOUT
from tests.openstack.base import CloudTest
from tests.unit import tables


@ddt.ddt
class RequestsTest(CloudTest):
    image: ClassVar[str]
    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        image = cls.demo.image.find_image('witness', ignore_missing=False)
        cls.image = image.id
        # The guest need not boot.
        cls.server = cls.start(cls.image)
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

    @tables.rows(
        {
            'says nothing': ('2.36', {}),
            'leaves it to Neutron': ('2.37', {'networks': 'auto'}),
        }
    )
    def test_server_that_names_no_network(
        self, version: str, networks: dict[str, Any]
    ) -> None:
        """Nova asks Neutron for one, and the guest has no interface."""
        compute = self.demo.compute
        flavor = compute.find_flavor('tiny', ignore_missing=False)
        answer = compute.post(
            '/servers',
            json={
                'server': {
                    'name': f'{type(self).__name__}-{version}',
                    'imageRef': self.image,
                    'flavorRef': flavor.id,
                    **networks,
                }
            },
            microversion=version,
        )
        sdk_exceptions.raise_from_response(answer)
        server = compute.get_server(answer.json()['server']['id'])
        self.addCleanup(self.delete, server)
        server = compute.wait_for_server(
            server, interval=0.3, wait=BOOT_TIMEOUT
        )
        self.assertEqual({}, server.addresses)
        with self.domain(server) as domain:
            self.assertNotIn('<interface', domain.XMLDesc())
