# SPDX-License-Identifier: Apache-2.0
"""Real disks, on their way into Glance."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from typing import Any

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.transfer.formats import compressed_qcow2
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.clusters import Runs
from nova_snapshot_driver.transfer.formats.compressed_qcow2 import (
    CompressedQcow2,
)
from nova_snapshot_driver.transfer.formats.compression import Compressor
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs import stream
from nova_snapshot_driver.transfer.jobs import upload
from nova_snapshot_driver.transfer.jobs.job import Stream
from nova_snapshot_driver.transfer.nbd import source
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from tests.unit import tables
from tests.unit.fake_glance import Answer
from tests.unit.fake_glance import Broken
from tests.unit.fake_glance import broken
from tests.unit.fake_glance import unavailable
from tests.unit.glance_server import GlanceServer
from tests.unit.host import GlanceContext
from tests.unit.host import NoWaiting
from tests.unit.transfer import disks
from tests.unit.transfer.fake_parent import FakeParent

ENCODINGS = {
    'raw': (Encoding('raw'),),
    'qcow2': (Encoding('qcow2'),),
    'zstd': (Encoding('qcow2', 'zstd'),),
    'zlib': (Encoding('qcow2', 'zlib'),),
}


class StreamCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(NoWaiting())
        self.disks = self.useFixture(disks.Disks())
        self.disk = self.disks.raw(
            12 << 20,
            [(1 << 20, disks.noise(3 << 20)), (6 << 20, disks.text(3 << 20))],
        )
        self.server = self.useFixture(GlanceServer())
        self.glance = self.server.glance
        self.image = self.glance.add(
            disk_format='raw', container_format='bare'
        )
        self.context = GlanceContext(self.server.url)
        self.parent = FakeParent(self.context.glance_access)

    def stream(
        self,
        encoding: Encoding = ENCODINGS['qcow2'][0],
        view: View | None = None,
        retries: int = 2,
        **bounds: Any,
    ) -> dict[str, Any]:
        return stream.run(
            Stream(
                view or self.disk,
                encoding,
                self.image,
                (),
                retries,
                str(self.disks.root),
            ),
            dataclasses.replace(disks.BOUNDS, **bounds),
            self.parent,
        )

    def uploads(self) -> int:
        return sum(r.method == 'PUT' for r in self.glance.requests)

    def assert_sent(
        self, result: dict[str, Any], format_: str = 'qcow2'
    ) -> None:
        content = self.glance.content[self.image]
        self.assertEqual(
            {
                'size': len(content),
                'sha512': hashlib.sha512(content).hexdigest(),
            },
            result,
        )
        path = self.disks.root / 'stored'
        path.write_bytes(content)
        disks.assert_same(self.disk, Layer(str(path), format_))


@ddt.ddt
class StreamTest(StreamCase):
    @tables.rows(ENCODINGS)
    def test_proven(self, encoding: Encoding) -> None:
        self.assert_sent(self.stream(encoding), encoding.format)
        self.assertEqual(1, self.uploads())

    def test_size_is_said_beforehand(self) -> None:
        result = self.stream()
        (sent,) = [r for r in self.glance.requests if r.method == 'PUT']
        self.assertEqual(
            str(result['size']), sent.headers['x-openstack-image-size']
        )

    @tables.rows(ENCODINGS)
    def test_connection_breaks_in_the_middle(self, encoding: Encoding) -> None:
        """The next attempt begins at byte 0, of the disk as well."""
        breaks = iter([True, True])

        def at_upload(size: int) -> None:
            if size > 2 << 20 and next(breaks, False):
                raise Broken

        self.server.at_upload = at_upload
        self.assert_sent(self.stream(encoding), encoding.format)

    def test_answer_is_lost(self) -> None:
        self.glance.late_troubles[1] = broken
        self.assert_sent(self.stream())
        self.assertEqual(1, self.uploads())

    def test_other_algorithm(self) -> None:
        self.glance.algorithm = 'sha256'
        self.assert_sent(self.stream())

    def test_other_hash(self) -> None:
        self.glance.troubles[2] = lambda: Answer(
            200, {**self.glance.images[self.image], 'os_hash_value': 'other'}
        )
        self.assertRaises(exception.ImageVerificationFailed, self.stream)

    def test_given_up(self) -> None:
        self.glance.troubles = dict.fromkeys(range(1, 9), unavailable)
        self.assertRaises(exception.UploadFailed, self.stream, retries=1)
        self.assertEqual(2, self.uploads())

    def test_bandwidth(self) -> None:
        begin = time.monotonic()
        self.stream(bandwidth=8 << 20)
        self.assertGreater(time.monotonic() - begin, 0.2)


class OverflowTest(StreamCase):
    def test_begins_anew(self) -> None:
        """Once, and after Glance has seen the end of the first."""
        self.useFixture(fixtures.MockPatchObject(compressed_qcow2, 'PAIRS', 8))
        self.disk = self.disks.raw(
            256 * CLUSTER,
            [
                (index * CLUSTER, kind(CLUSTER))
                for index in range(256)
                for kind in [disks.text if index % 32 < 2 else disks.noise]
            ],
        )
        record = self.glance.images[self.image]

        def saving() -> Answer:
            return Answer(200, {**record, 'status': 'saving'})

        # The first upload is broken off before it counts as a request.
        self.glance.troubles = {1: saving, 2: unavailable}
        self.assert_sent(self.stream(Encoding('qcow2', 'zstd'), retries=0))
        self.assertEqual(
            ['GET', 'GET', 'GET', 'PUT', 'GET'],
            [
                request.method
                for request in self.glance.requests
                if self.image in request.path
            ],
        )


class ThreadsTest(StreamCase):
    def test_they_end_with_an_attempt(self) -> None:
        """Though somebody still has what it was to send."""
        disk = self.disks.raw(64 << 20, [(0, disks.noise(64 << 20))])
        with source.opened(disk, Bounds(), str(self.disks.root)) as opened:
            content = CompressedQcow2(
                opened,
                Runs.of_bytes(opened.data()),
                Compressor('zstd', 1),
                budget=2048,
            )
            with content.pieces() as pieces:
                while not compressing_threads():
                    next(pieces)
            self.assertEqual([], compressing_threads())
            del pieces


def compressing_threads() -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith('ThreadPoolExecutor')
    ]


class DeletedTest(StreamCase):
    def test_noticed_meanwhile(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(upload, 'WATCH_INTERVAL', 0.05)
        )
        sent = []

        def at_upload(size: int) -> None:
            sent.append(size)
            self.glance.images.pop(self.image, None)
            time.sleep(0.02)

        self.server.at_upload = at_upload
        self.assertRaises(exception.ImageNotFound, self.stream)
        self.assertEqual(0, self.uploads())

    def test_glance_does_not_say(self) -> None:
        """The upload goes on: it may be nothing but the token."""
        self.useFixture(
            fixtures.MockPatchObject(upload, 'WATCH_INTERVAL', 0.01)
        )
        self.glance.troubles[1] = lambda: Answer(401, {})
        self.glance.troubles[2] = unavailable
        seen = threading.Event()

        def at_upload(_size: int) -> None:
            if len(self.glance.requests) >= 3:
                seen.set()
            seen.wait(0.1)

        self.server.at_upload = at_upload
        self.assert_sent(self.stream())
        self.assertTrue(seen.is_set())


class UnreadableTest(StreamCase):
    """Failures that end the stream, and are not retried."""

    def assert_unreadable(
        self, view: View, reason: str, **bounds: Any
    ) -> None:
        error = self.assertRaises(
            exception.SourceUnreadable, self.stream, view=view, **bounds
        )
        self.assertIn(reason, str(error))
        self.assertNotIn(self.image, self.glance.content)
        self.assertEqual('queued', self.glance.images[self.image]['status'])

    def large(self) -> Export:
        disk = self.disks.raw(64 << 20, [(0, disks.noise(64 << 20))])
        return self.disks.serve(disk)

    def test_no_server(self) -> None:
        export = self.disks.serve(self.disk)
        self.disks.kill_servers()
        self.assert_unreadable(export, 'Connection refused')

    def test_no_such_export(self) -> None:
        export = self.disks.serve(self.disk)
        self.assert_unreadable(dataclasses.replace(export, name='vdb'), 'vdb')

    def test_no_image(self) -> None:
        missing = Layer(str(self.disks.root / 'missing'), 'raw')
        self.assert_unreadable(missing, 'No such file')

    def test_other_format(self) -> None:
        self.assert_unreadable(
            Layer(self.disk.path, 'qcow2'), 'not in qcow2 format'
        )

    def test_server_dies_in_the_middle(self) -> None:
        export = self.large()
        self.server.at_upload = lambda _size: self.disks.kill_servers()
        self.assert_unreadable(export, 'onnect')

    def test_server_falls_silent_in_the_middle(self) -> None:
        export = self.large()
        self.server.at_upload = lambda _size: self.disks.stop_servers()
        self.assert_unreadable(export, 'no answer for 0.5 s', timeout=0.5)

    def test_disk_has_an_error(self) -> None:
        torn = self.disks.torn(self.disk, 7 << 20)
        # qemu-nbd says no more of it.
        self.assert_unreadable(self.disks.serve(torn), 'onnect')

    def test_no_qemu_nbd(self) -> None:
        self.useFixture(fixtures.EnvironmentVariable('PATH', '/nowhere'))
        error = self.assertRaises(exception.CommandMissing, self.stream)
        self.assertIn('qemu-utils', str(error))
