# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import os
import types
from typing import Any

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver import qemu_img
from nova_snapshot_driver.driver import IMAGE_PENDING_UPLOAD
from nova_snapshot_driver.driver import IMAGE_UPLOADING
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.host import Host
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.journal import Journal
from tests.unit import documents
from tests.unit.fake_data_plane import CONTENT
from tests.unit.host import FakeHost


class DriverCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.before = self.host.before()

    def driver(self) -> SnapshotDriver:
        return SnapshotDriver(self.host.conf, Host(self.host.connection))


class SnapshotTest(DriverCase):
    def test_image_is_active_and_described(self) -> None:
        instance = Instance(
            documents.UUID, project_id=documents.PROJECT, os_type='linux'
        )
        self.host.snapshot(instance=instance)
        image = self.host.glance.images[self.host.image]
        self.assertEqual(CONTENT, self.host.glance.content[self.host.image])
        self.assertEqual('active', image['status'])
        self.assertEqual(
            {
                'disk_format': 'qcow2',
                'container_format': 'bare',
                'image_location': 'snapshot',
                'image_state': 'available',
                'owner_id': documents.PROJECT,
                'os_type': 'linux',
                'snapshot_method': 'mirror',
                'snapshot_method_reason': 'the guest is running',
                'snapshot_quiesced': 'true',
                'snapshot_quiesced_reason': 'by the guest agent',
            },
            {
                name: image[name]
                for name in image
                if name
                in ('disk_format', 'container_format', 'owner_id', 'os_type')
                or name.startswith(('image_', 'snapshot_'))
            },
        )

    def test_result(self) -> None:
        snapshot = self.host.snapshot()
        self.assertEqual(documents.NAME, snapshot.domain)
        self.assertEqual(documents.UUID, snapshot.uuid)
        self.assertEqual('mirror', snapshot.method)
        self.assertTrue(snapshot.quiesced)
        self.assertEqual(len(CONTENT), snapshot.size)
        self.assertEqual(hashlib.sha512(CONTENT).hexdigest(), snapshot.sha512)
        self.assertEqual(
            ['capture', 'extract', 'give_back', 'upload'],
            list(snapshot.seconds),
        )

    def test_task_states(self) -> None:
        self.host.snapshot()
        self.assertEqual(
            [
                {'task_state': IMAGE_PENDING_UPLOAD},
                {
                    'task_state': IMAGE_UPLOADING,
                    'expected_state': IMAGE_PENDING_UPLOAD,
                },
            ],
            self.host.task_states,
        )
        # The words of nova.compute.task_states.
        self.assertEqual(
            ('image_pending_upload', 'image_uploading'),
            (IMAGE_PENDING_UPLOAD, IMAGE_UPLOADING),
        )

    def test_format_and_compression(self) -> None:
        self.host.set('libvirt', 'snapshot_image_format', 'qcow2')
        self.host.set('libvirt', 'snapshot_compression', True)
        self.host.snapshot()
        self.assertTrue(self.host.data_plane.compress)
        target = self.host.data_plane.target
        self.assertEqual('qcow2', target and target.format)

    def test_log_says_what_was_done_and_holds_no_secret(self) -> None:
        self.host.snapshot()
        self.assertIn('mirror (the guest is running)', self.host.log.output)
        for secret in ('t0ken', 's3cret'):
            self.assertNotIn(secret, self.host.log.output)


class RefusedTest(DriverCase):
    """What is seen before anything is touched."""

    def refused(
        self, error: type[Exception], **how: Any
    ) -> exception.SnapshotError:
        raised = self.assertRaises(error, self.host.snapshot, **how)
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual([], self.host.task_states)
        self.assertNotIn(self.host.image, self.host.glance.images)
        assert isinstance(raised, exception.SnapshotError)
        return raised

    def test_unknown_domain(self) -> None:
        self.refused(exception.DomainNotFound, instance=Instance('web-9'))

    def test_image_is_not_there(self) -> None:
        del self.host.glance.images[self.host.image]
        self.refused(exception.ImageNotFound)

    def test_no_space(self) -> None:
        full = types.SimpleNamespace(f_bavail=1, f_frsize=4096)
        self.useFixture(fixtures.MockPatch('os.statvfs', return_value=full))
        error = self.refused(exception.NoSpace)
        # 2 MiB of content in the delta and in the image, and the margin.
        self.assertEqual(5, error.fields['required'])

    def test_delta_of_an_overlay_is_the_overlay(self) -> None:
        disk = '/var/lib/nova/instances/8a6f3f5e/disk'
        self.host.qemu_img.backing[disk] = ('/base', 'raw')
        self.useFixture(
            fixtures.MockPatchObject(
                qemu_img, 'allocated_bytes', lambda _image: 1 << 20
            )
        )
        full = types.SimpleNamespace(f_bavail=1, f_frsize=4096)
        self.useFixture(fixtures.MockPatch('os.statvfs', return_value=full))
        error = self.refused(exception.NoSpace)
        self.assertEqual(4, error.fields['required'])
        self.assertEqual(
            self.host.directories.snapshots, error.fields['directory']
        )

    def test_delta_needs_no_space_where_there_is_none(self) -> None:
        self.host.set('snapshot', 'path', 'cold')
        full = types.SimpleNamespace(f_bavail=1, f_frsize=4096)
        self.useFixture(fixtures.MockPatch('os.statvfs', return_value=full))
        error = self.refused(exception.NoSpace)
        self.assertEqual(3, error.fields['required'])

    def test_unsafe_backing_file(self) -> None:
        self.host.qemu_img.backing['/var/lib/nova/instances/8a6f3f5e/disk'] = (
            '/base',
            None,
        )
        self.refused(exception.UnsafeBackingFile)

    def test_another_snapshot_of_the_domain(self) -> None:
        journal = Journal(self.host.directories.state)
        with journal.exclusive(documents.UUID, documents.NAME):
            self.refused(exception.DomainBusy)


class ToFileTest(DriverCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.host.root / 'web-1.qcow2'

    def test_file(self) -> None:
        snapshot = self.driver().snapshot_to_file(
            Instance(documents.NAME), str(self.path)
        )
        self.assertEqual(CONTENT, self.path.read_bytes())
        self.assertEqual(len(CONTENT), snapshot.size)
        self.assertIsNone(snapshot.sha512)
        self.assertEqual([], self.host.differences(self.before))

    def test_glance_is_left_alone(self) -> None:
        self.driver().snapshot_to_file(
            Instance(documents.NAME), str(self.path)
        )
        self.assertEqual([], self.host.glance.requests)

    def test_existing_file_is_left_alone(self) -> None:
        self.path.write_text('precious')
        self.assertRaises(
            exception.OutputExists,
            self.driver().snapshot_to_file,
            Instance(documents.NAME),
            str(self.path),
        )
        self.assertEqual('precious', self.path.read_text())

    def test_nothing_is_left_of_a_failure(self) -> None:
        def fail() -> None:
            raise exception.CommandFailed(
                command='qemu-img convert', status=1, reason='broken'
            )

        self.host.data_plane.at_extract = fail
        self.assertRaises(
            exception.CommandFailed,
            self.driver().snapshot_to_file,
            Instance(documents.NAME),
            str(self.path),
        )
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual(
            {'snapshots', 'state'}, set(os.listdir(self.host.root))
        )
