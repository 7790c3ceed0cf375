# SPDX-License-Identifier: Apache-2.0
"""Servers in every state, snapshotted in every way."""

from __future__ import annotations

import json
from typing import Any
from typing import ClassVar

from openstack.compute.v2.server import Server
from openstack.image.v2.image import Image

from lab.bounded import run
from lab.cloud.configuration import Overrides
from lab.disks import Layer
from lab.evidence import Evidence
from tests.openstack import base

COMMAND_TIMEOUT = 60

BY_AGENT = 'by the guest agent'
PAUSED = 'the guest is paused, its agent cannot answer'
SUSPENDED = 'the guest is suspended, its agent cannot answer'
AT_REST = 'the guest is shut off, its disk is at rest'
AGENT_FAILS = 'the guest agent fails, or does not answer'
NO_AGENT = 'the image has no property hw_qemu_guest_agent'


class StatesTest(base.ServerTest):
    """The common parts of the tests of this module."""

    def prove(self, status: str, **expected: str) -> tuple[Image, Evidence]:
        """Snapshot the server in a state, in which it stays.

        :param expected: properties of the image
        :returns: the image, examined
        """
        earliest = self.records(self.server)
        with self.in_state(self.server, status):
            before = self.before(self.server)
            image = self.snapshot(self.server)
            self.assert_unchanged(status, before)
        self.assertEqual(
            expected, {name: property_of(image, name) for name in expected}
        )
        evidence = self.examine(image, earliest)
        if property_of(image, 'snapshot_quiesced') == 'true':
            self.assertFalse(evidence.journal_replayed)
        return image, evidence

    def prove_and_boot(self, status: str, **expected: str) -> Evidence:
        """Prove a snapshot, and see that a server of the image writes on."""
        image, evidence = self.prove(status, **expected)
        server = self.new_server(image)
        self.assertGreater(self.records(server), evidence.records)
        return evidence

    def assert_refused(
        self, status: str, reason: str, server: Server | None = None
    ) -> None:
        """A snapshot fails, and leaves nothing but the reason."""
        server = server or self.server
        with self.in_state(server, status):
            before = self.before(server)
            image = self.ask_for_snapshot(server)
            self.wait_until_gone(image)
            self.assert_unchanged(status, before)
        self.assertIn(reason, self.fault(server))

    def assert_unchanged(self, status: str, before: Any) -> None:
        self.assertEqual(status, self.wait_for_no_task(before.uuid).status)
        self.assert_as_before(before)


def property_of(image: Image, name: str) -> Any:
    """A property of an image, whether the SDK knows it by name or not."""
    return image.to_dict().get(name, image.properties.get(name))


class LiveTest(StatesTest):
    """With the options that nova-compute has by default."""

    def test_active(self) -> None:
        self.prove_and_boot(
            'ACTIVE',
            disk_format='qcow2',
            snapshot_method='backup',
            snapshot_quiesced='true',
            snapshot_quiesced_reason=BY_AGENT,
        )

    def test_paused(self) -> None:
        self.prove(
            'PAUSED',
            disk_format='qcow2',
            snapshot_method='backup',
            snapshot_quiesced='false',
            snapshot_quiesced_reason=PAUSED,
        )

    def test_suspended(self) -> None:
        self.prove(
            'SUSPENDED',
            disk_format='qcow2',
            snapshot_method='cold',
            snapshot_quiesced='false',
            snapshot_quiesced_reason=SUSPENDED,
        )

    def test_shut_off(self) -> None:
        evidence = self.prove_and_boot(
            'SHUTOFF',
            disk_format='qcow2',
            snapshot_method='cold',
            snapshot_quiesced='false',
            snapshot_quiesced_reason=AT_REST,
        )
        self.assertFalse(evidence.journal_replayed)

    def test_freeze_that_fails(self) -> None:
        self.run_in_guest(self.server, 'touch /run/fail-freeze')
        log = self.cloud.log('nova-compute')
        self.prove(
            'ACTIVE',
            snapshot_method='backup',
            snapshot_quiesced='false',
            snapshot_quiesced_reason=AGENT_FAILS,
        )
        self.assertNotEqual([], log.grep('freeze the file systems'))


class ColdTest(StatesTest):
    """Guests are suspended, and the images are raw."""

    nova_compute: ClassVar[Overrides] = {
        ('workarounds', 'disable_libvirt_livesnapshot'): True,
        ('libvirt', 'snapshot_image_format'): 'raw',
    }

    def test_active(self) -> None:
        self.prove(
            'ACTIVE',
            disk_format='raw',
            snapshot_method='cold',
            snapshot_method_reason=(
                '[workarounds] disable_libvirt_livesnapshot'
            ),
            snapshot_quiesced='true',
            snapshot_quiesced_reason=BY_AGENT,
        )

    def test_paused(self) -> None:
        self.prove(
            'PAUSED',
            disk_format='raw',
            snapshot_method='cold',
            snapshot_quiesced='false',
            snapshot_quiesced_reason=PAUSED,
        )

    def test_quiescing_is_impossible(self) -> None:
        image = self.upload(os_require_quiesce='yes')
        self.assert_refused('ACTIVE', NO_AGENT, self.new_server(image))

    def download(self, image: Image) -> Layer:
        """Glance's own file: a raw one takes its time through the API."""
        path = self.directory / image.id
        path.hardlink_to(self.cloud.glance_store / image.id)
        return Layer(path, image.disk_format)


class FlatTest(StatesTest):
    """The disk of a server is one raw file, and the live way is forced.

    The images are compressed.
    """

    nova_compute: ClassVar[Overrides] = {
        ('libvirt', 'images_type'): 'raw',
        ('libvirt', 'snapshot_image_format'): 'qcow2',
        ('libvirt', 'snapshot_compression'): True,
        ('snapshot', 'method'): 'mirror',
    }

    def test_active(self) -> None:
        image, _evidence = self.prove(
            'ACTIVE',
            disk_format='qcow2',
            snapshot_method='mirror',
            snapshot_method_reason='forced by [snapshot] method',
            snapshot_quiesced='true',
        )
        self.assertGreater(self._compressed_clusters(image), 0)

    def _compressed_clusters(self, image: Image) -> int:
        report = run(
            [
                *('qemu-img', 'check', '--output=json', '-f', 'qcow2'),
                self.directory / image.id,
            ],
            timeout=COMMAND_TIMEOUT,
        )
        return int(json.loads(report)['compressed-clusters'])

    def test_nova_takes_it(self) -> None:
        """Nothing is said of how it was made: we have not made it.

        The server has those words from its own image.
        """
        server = self.new_server(self.snapshot(self.server))
        self.demo.compute.stop_server(server.id)
        self.wait_for_status(server, 'SHUTOFF')
        before = self.before(server)
        image = self.snapshot(server)
        self.log.wait("Nova's own driver takes the snapshot", COMMAND_TIMEOUT)
        self.assert_unchanged('SHUTOFF', before)
        self.assertIsNone(property_of(image, 'snapshot_method'))
        self.assertIsNone(property_of(image, 'snapshot_quiesced'))


class RequiredTest(StatesTest):
    """Quiescing is required, and the image promises an agent."""

    properties: ClassVar[dict[str, Any]] = {
        'os_require_quiesce': 'yes',
        'hw_qemu_guest_agent': 'yes',
    }

    def test_active(self) -> None:
        self.prove(
            'ACTIVE',
            snapshot_quiesced='true',
            snapshot_quiesced_reason=BY_AGENT,
        )

    def test_freeze_that_fails(self) -> None:
        self.run_in_guest(self.server, 'touch /run/fail-freeze')
        self.assert_refused('ACTIVE', 'the guest agent fails')
