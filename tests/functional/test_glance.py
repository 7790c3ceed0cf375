# SPDX-License-Identifier: Apache-2.0
"""The image arrives in a real Glance, or there is none."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import TypeVar

from lab import glance
from lab import proxy
from lab.bounded import wait_until
from lab.disks import Layer
from lab.options import GuestOptions
from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import CinderAccess
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.clients.image import Image
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.transfer.jobs.image_data import ImageData
from tests import laws
from tests.functional import base

T = TypeVar('T')

MIB = 1 << 20

#: Seconds of silence after which Glance is given up.
SILENCE = 3


class _Context:
    def __init__(self, url: str) -> None:
        self._url = url

    def glance_access(self) -> GlanceAccess:
        return GlanceAccess(self._url, timeout=SILENCE)

    def cinder_access(self) -> CinderAccess:
        raise AssertionError('there is no volume')

    def sees(self, _project: str | None) -> bool:
        return True


class GlanceCase(base.SnapshotTest):
    server: ClassVar[glance.Glance]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = glance.Glance(base.scratch_directory() / 'glance')
        cls.addClassCleanup(cls.server.discard)
        cls.server.start()

    def setUp(self) -> None:
        super().setUp()
        self.proxy = proxy.FaultyProxy(self.server.url)
        self.proxy.__enter__()
        self.addCleanup(self.proxy.__exit__, None, None, None)
        self.url = self.proxy.url
        self.images = Glance(GlanceAccess(self.server.url))
        self.states: list[dict[str, str]] = []

    def take(self, retries: int = 1, **options: Any) -> tuple[Snapshot, Image]:
        """Snapshot the guest into a new image, which is returned too."""
        self.image = self.images.create(name='снимок', visibility='private')
        driver = self.driver(retries=retries, **options)
        snapshot: Snapshot = self.laws_hold(lambda: self._snapshot(driver))
        return snapshot, self.images.get(self.image.id)

    def fails(
        self,
        error: type[exception.SnapshotError],
        retries: int = 1,
        **options: Any,
    ) -> exception.SnapshotError:
        """Take a snapshot that fails and leaves no image."""
        self.image = self.images.create(name='failure', visibility='private')
        driver = self.driver(retries=retries, **options)
        raised: exception.SnapshotError = self.laws_hold(
            lambda: self.assertRaises(error, self._snapshot, driver)
        )
        self.assertRaises(
            exception.ImageNotFound, self.images.get, self.image.id
        )
        self.guest.still_counts()
        return raised

    def uploaded_meanwhile(
        self, run: Callable[[], T]
    ) -> tuple[T, list[proxy.Upload]]:
        """The result of a function, and the uploads that it makes."""
        before = len(self.proxy.uploads)
        return run(), self.proxy.uploads[before:]

    def _snapshot(self, driver: SnapshotDriver) -> Snapshot:
        return driver.snapshot(
            _Context(self.url),
            Instance(
                self.guest.name,
                project_id='a-project',
                os_type='linux',
                kernel_id='a-kernel',
                ramdisk_id='a-ramdisk',
            ),
            self.image.id,
            lambda **state: self.states.append(state),
        )

    def downloaded(self, image: Image, disk_format: str) -> Layer:
        """The bytes that Glance has, from its own store."""
        [stored] = [
            file for file in self.server.store_files() if file.name == image.id
        ]
        copy = self.output / 'downloaded'
        copy.write_bytes(stored.read_bytes())
        return Layer(copy, disk_format)


class GlanceTest(GlanceCase):
    options = GuestOptions('glance')

    def test_proven_byte_for_byte(self) -> None:
        # Far faster than through the proxy.
        self.url = self.server.url
        for path, formats in (
            ('backup', ('raw', 'qcow2', 'vmdk', 'vdi')),
            ('mirror', ('raw', 'qcow2')),
            ('cold', ('qcow2', 'vdi')),
        ):
            for disk_format in formats:
                self._is_proven(path, disk_format)

    def _is_proven(self, path: str, disk_format: str) -> None:
        last = self.guest.ticks.last
        snapshot, image = self.take(method=path, image_format=disk_format)
        stored = self.downloaded(image, disk_format)
        digest = _sha512(stored.path)
        self.assertEqual('active', image.status)
        self.assertEqual(snapshot.size, image.size)
        self.assertEqual(digest, snapshot.disks[0].sha512)
        self.assertEqual(digest, image.os_hash_value)
        self.examine(stored, last)
        self.images.delete(image.id)

    def test_metadata(self) -> None:
        _snapshot, image = self.take()
        expected = {
            'disk_format': 'qcow2',
            'container_format': 'bare',
            'image_location': 'snapshot',
            'image_state': 'available',
            'owner_id': 'a-project',
            'os_type': 'linux',
            'kernel_id': 'a-kernel',
            'ramdisk_id': 'a-ramdisk',
            'snapshot_method': 'backup',
            'snapshot_method_reason': 'the guest is running',
            'snapshot_quiesced': 'true',
            'snapshot_quiesced_reason': 'by the guest agent',
            'snapshot_quiesced_file_systems': '1',
        }
        found = {name: image.properties.get(name) for name in expected}
        self.assertEqual(expected, found)
        self.assertEqual('снимок', image.name)

    def test_task_states(self) -> None:
        self.take()
        self.assertEqual(
            [
                {'task_state': 'image_pending_upload'},
                {
                    'task_state': 'image_uploading',
                    'expected_state': 'image_pending_upload',
                },
            ],
            self.states,
        )

    def test_content_of_another_size(self) -> None:
        """Glance is not left waiting, and its image stays empty."""
        image = self.images.create(
            name='short', disk_format='raw', container_format='bare'
        )
        self.addCleanup(self.images.delete, image.id)
        data = ImageData(GlanceAccess(self.server.url), image.id)
        for size in (4, 6):
            self.assertRaises(
                exception.GlanceError, data.send, [b'short'], size
            )
        self.assertNotEqual('active', self.images.get(image.id).status)

    def test_deleted_while_its_upload_ends(self) -> None:
        """Glance has nothing of it in its store."""
        image = self.images.create(
            name='late', disk_format='raw', container_format='bare'
        )
        data = ImageData(GlanceAccess(self.server.url), image.id)
        last = threading.Event()

        def blocks() -> Iterator[bytes]:
            yield b'be'
            last.wait(SILENCE)
            yield b'fore'

        with futures.ThreadPoolExecutor() as pool:
            sent = pool.submit(data.send, blocks(), len(b'before'))
            wait_until(
                lambda: data.image().status == 'saving', 'the upload', SILENCE
            )
            deleted = pool.submit(self.images.delete, image.id)
            not_yet = futures.wait([deleted], SILENCE / 3).not_done
            last.set()
            # The upload ends well: its image was there until its end.
            sent.result()
            deleted.result()
        self.assertEqual({deleted}, not_yet)
        self.assertRaises(exception.ImageNotFound, self.images.get, image.id)
        self.assertNotIn(
            image.id, [file.name for file in self.server.store_files()]
        )


class TroubleTest(GlanceCase):
    """The upload goes wrong."""

    options = GuestOptions('trouble')

    def test_connection_breaks_once(self) -> None:
        """The second attempt sends everything, from byte 0.

        Nova's does not: its image is active, and lacks what the first
        attempt had sent.
        """
        for path, disk_format in (
            ('backup', 'raw'),
            ('backup', 'qcow2'),
            ('mirror', 'qcow2'),
        ):
            self._survives_a_cut(path, disk_format)

    def _survives_a_cut(self, path: str, disk_format: str) -> None:
        self.proxy.inject(proxy.Cut(20 * MIB), times=1)
        last = self.guest.ticks.last
        (snapshot, image), uploads = self.uploaded_meanwhile(
            lambda: self.take(method=path, image_format=disk_format)
        )
        self.assertIs(path == 'backup', snapshot.streamed)
        self.assertEqual([None, 204], [upload.status for upload in uploads])
        self.assertEqual(snapshot.size, uploads[1].size)
        self.examine(self.downloaded(image, disk_format), last)
        self.images.delete(image.id)

    def test_connection_breaks_always(self) -> None:
        self.proxy.inject(proxy.Cut(10 * MIB))
        error = self.fails(exception.UploadFailed, retries=2)
        self.assertEqual(3, error.fields['attempts'])
        self.assertEqual(3, len(self.proxy.uploads))

    def test_glance_stores_other_bytes(self) -> None:
        self.proxy.inject(proxy.Flip(30 * MIB))
        for path in ('backup', 'mirror'):
            self._is_unproven(path)

    def _is_unproven(self, path: str) -> None:
        error, uploads = self.uploaded_meanwhile(
            lambda: self.fails(exception.ImageVerificationFailed, method=path)
        )
        self.assertEqual('os_hash_value', error.fields['field'])
        self.assertEqual(1, len(uploads))

    def test_glance_refuses(self) -> None:
        for status in (403, 410, 413):
            self._refuses('backup', status)
        self._refuses('mirror', 413)

    def _refuses(self, path: str, status: int) -> None:
        self.proxy.inject(proxy.Answer(status))
        _error, uploads = self.uploaded_meanwhile(
            lambda: self.fails(exception.GlanceError, method=path)
        )
        self.assertEqual([status], [upload.status for upload in uploads])

    def test_glance_is_unavailable_once(self) -> None:
        self.proxy.inject(proxy.Answer(503), times=1)
        _snapshot, image = self.take()
        self.assertEqual('active', image.status)

    def test_glance_is_unavailable(self) -> None:
        # Glance may answer 409 for a while after an upload that broke off.
        for status in (409, 503):
            self.proxy.inject(proxy.Answer(status))
            error = self.fails(exception.UploadFailed)
            self.assertEqual(2, error.fields['attempts'])

    def test_glance_stalls(self) -> None:
        self.proxy.inject(proxy.Stall(5 * MIB))
        self.fails(exception.UploadFailed)

    def test_upload_takes_too_long(self) -> None:
        self.proxy.inject(proxy.Stall(5 * MIB))
        self.fails(exception.TransferTimeout, upload_timeout=1)

    def test_image_is_gone(self) -> None:
        self.image = self.images.create(name='gone')
        self.images.delete(self.image.id)
        driver = self.driver()
        self.laws_hold(
            lambda: self.assertRaises(
                exception.ImageNotFound, self._snapshot, driver
            )
        )

    def test_image_is_deleted_meanwhile(self) -> None:
        self._when_uploading(lambda: self.images.delete(self.image.id))
        _error, [upload] = self.uploaded_meanwhile(
            lambda: self.fails(exception.ImageNotFound, bandwidth=4)
        )
        # The upload was broken off in the middle: Glance has answered nothing.
        self.assertIsNone(upload.status)

    def test_glance_dies_and_comes_back(self) -> None:
        """The record of the image is stuck, so there is nothing to save."""

        def die_and_come_back() -> None:
            self.server.kill()
            self.server.start()

        self._when_uploading(die_and_come_back, proxy.Stall(5 * MIB))
        self.fails(exception.UploadFailed)

    def test_glance_dies_for_good(self) -> None:
        """The remaining image is named, and deleted when Glance is back."""
        before = laws.Before.of(self.connection, self.guest.name)
        self._when_uploading(self.server.kill, proxy.Stall(5 * MIB))
        self.addCleanup(self._start_again)
        self.image = self.images.create(name='left', visibility='private')
        driver = self.driver(retries=0)
        error = self.assertRaises(
            exception.ImageLeftBehind, self._snapshot, driver
        )
        self.assertIn(f'openstack image delete {self.image.id}', str(error))
        self.server.start()
        self.healer(retries=0).heal(_Context(self.server.url))
        self.assertRaises(
            exception.ImageNotFound, self.images.get, self.image.id
        )
        self.assertEqual([], self.broken_laws(before))

    def _start_again(self) -> None:
        if not self.server.running:
            self.server.start()

    def _when_uploading(
        self, happens: Callable[[], object], fault: proxy.Fault | None = None
    ) -> None:
        """Do something while an upload is on its way."""
        if fault is not None:
            self.proxy.inject(fault, times=1)
        seen = len(self.proxy.uploads)

        def watch() -> None:
            wait_until(
                lambda: (
                    len(self.proxy.uploads) > seen
                    and self.proxy.uploads[seen].size > 5 * MIB
                ),
                'the upload to come so far',
                60,
            )
            happens()
            self.proxy.heal()

        thread = threading.Thread(target=watch)
        thread.start()
        self.addCleanup(thread.join)


def _sha512(path: Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha512').hexdigest()
