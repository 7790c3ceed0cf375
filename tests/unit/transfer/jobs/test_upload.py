# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import logging
import pathlib
import time
from itertools import pairwise
from typing import Any

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.transfer.jobs import upload
from nova_snapshot_driver.transfer.jobs.image_data import ImageData
from nova_snapshot_driver.transfer.jobs.job import Upload
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from tests.unit import tables
from tests.unit.fake_glance import Answer
from tests.unit.fake_glance import Broken
from tests.unit.fake_glance import broken
from tests.unit.fake_glance import unavailable
from tests.unit.glance_server import GlanceServer
from tests.unit.host import GlanceContext
from tests.unit.host import NoWaiting
from tests.unit.transfer.fake_parent import FakeParent

#: Several pieces of what the client sends at once.
CONTENT = bytes(range(256)) * 10240


class UploadCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(NoWaiting())
        self.server = self.useFixture(GlanceServer())
        self.glance = self.server.glance
        self.image = self.glance.add(
            disk_format='raw', container_format='bare'
        )
        root = self.useFixture(fixtures.TempDir()).path
        self.path = pathlib.Path(root) / 'image'
        self.path.write_bytes(CONTENT)
        self.context = GlanceContext(self.server.url)
        self.parent = FakeParent(self.context.glance_access)

    def upload(self, retries: int = 3, least_rate: int = 0) -> dict[str, Any]:
        return upload.run(
            Upload(str(self.path), self.image, (), retries),
            Bounds(least_rate=least_rate),
            self.parent,
        )

    def uploads(self) -> int:
        return sum(r.method == 'PUT' for r in self.glance.requests)


@ddt.ddt
class UploadTest(UploadCase):
    def test_proven(self) -> None:
        result = self.upload()
        self.assertEqual(
            {
                'size': len(CONTENT),
                'sha512': hashlib.sha512(CONTENT).hexdigest(),
            },
            result,
        )
        self.assertEqual(CONTENT, self.glance.content[self.image])

    def test_size_is_said_beforehand(self) -> None:
        self.upload()
        (sent,) = [r for r in self.glance.requests if r.method == 'PUT']
        self.assertEqual(
            str(len(CONTENT)), sent.headers['x-openstack-image-size']
        )

    def test_chunks_are_as_glance_reads(self) -> None:
        received = [0]
        self.server.at_upload = received.append
        self.upload()
        sizes = {after - before for before, after in pairwise(received)}
        self.assertEqual({1 << 16}, sizes)

    def test_progress(self) -> None:
        self.upload()
        self.assertEqual((len(CONTENT), len(CONTENT)), self.parent.told[-1])
        self.assertEqual(sorted(self.parent.told), self.parent.told)
        self.assertGreater(len(self.parent.told), 2)

    def test_empty_file(self) -> None:
        self.path.write_bytes(b'')
        self.assertEqual(
            {'size': 0, 'sha512': hashlib.sha512().hexdigest()}, self.upload()
        )

    def test_too_slow(self) -> None:
        """A Glance that takes a chunk now and then is never silent."""
        # The sockets take as much as they hold at once.
        self.path.write_bytes(bytes(32 << 20))
        self.context.timeout = 2
        self.server.at_upload = lambda _size: time.sleep(0.02)
        error = self.assertRaises(
            exception.UploadFailed, self.upload, 0, 64 << 20
        )
        self.assertIn('65536 KiB a second for 2 s', str(error))
        self.assertIn('least_rate', str(error))

    def test_slow(self) -> None:
        self.context.timeout = 2
        self.server.at_upload = lambda _size: time.sleep(0.02)
        self.upload(least_rate=1 << 16)

    def test_connection_breaks_in_the_middle(self) -> None:
        """Glance can't resume: the next attempt begins at byte 0."""
        breaks = iter([True, True])

        def at_upload(size: int) -> None:
            if size > len(CONTENT) / 2 and next(breaks, False):
                raise Broken

        self.server.at_upload = at_upload
        result = self.upload(retries=2)
        self.assertEqual(CONTENT, self.glance.content[self.image])
        self.assertEqual(
            {
                'size': len(CONTENT),
                'sha512': hashlib.sha512(CONTENT).hexdigest(),
            },
            result,
        )

    def test_glance_is_away_for_a_moment(self) -> None:
        self.glance.troubles = {1: unavailable, 3: unavailable}
        self.upload(retries=2)
        self.assertEqual(3, self.uploads())

    def test_every_attempt_has_tokens_that_are_valid_then(self) -> None:
        """A day of upload may outlive them."""
        self.glance.troubles = {1: unavailable}
        self.upload()
        # Each attempt, the look at what the first has left, and the proof.
        self.assertEqual(
            [
                ('PUT', 't0ken-1', 's3rvice-1'),
                ('GET', 't0ken-2', 's3rvice-2'),
                ('PUT', 't0ken-3', 's3rvice-3'),
                ('GET', 't0ken-4', 's3rvice-4'),
            ],
            [
                (
                    request.method,
                    request.headers['x-auth-token'],
                    request.headers['x-service-token'],
                )
                for request in self.glance.requests
                if self.image in request.path
            ],
        )
        self.assertEqual(4, self.parent.answers)

    def test_no_token_is_in_the_log(self) -> None:
        log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        self.glance.troubles = {1: broken, 3: unavailable}
        self.upload()
        self.assertIn('PUT', log.output)
        for token in ('t0ken', 's3rvice'):
            self.assertNotIn(token, log.output)

    def test_answer_is_lost(self) -> None:
        """The image is complete, and only nobody has said so."""
        real = ImageData.send

        def lose_answer(*arguments: Any) -> None:
            real(*arguments)
            raise exception.GlanceUnavailable(
                endpoint='-', operation='upload', reason='lost'
            )

        self.useFixture(
            fixtures.MockPatchObject(ImageData, 'send', lose_answer)
        )
        self.upload()
        self.assertEqual(1, self.uploads())

    @tables.rows(
        {
            f'{name}_at_{number}': (kind, number)
            for name, kind in {
                'keystone': exception.KeystoneUnavailable,
                'cloud': exception.CloudUnavailable,
            }.items()
            # The attempt, and the proof.
            for number in (1, 2)
        }
    )
    def test_keystone_is_away_for_a_moment(
        self, kind: type[exception.SnapshotError], number: int
    ) -> None:
        """A day of upload is not thrown away for one token."""
        self.context.troubles[number] = kind(reason='away')
        result = self.upload(retries=1)
        self.assertEqual(
            {
                'size': len(CONTENT),
                'sha512': hashlib.sha512(CONTENT).hexdigest(),
            },
            result,
        )
        self.assertEqual(1, self.uploads())
        self.assertEqual(3, self.context.accesses)

    def test_keystone_is_away_when_the_answer_was_lost(self) -> None:
        """The image is complete, and is not sent into another one."""
        self.glance.late_troubles[1] = broken
        self.context.troubles[2] = exception.KeystoneUnavailable(reason='-')
        self.upload()
        self.assertEqual(CONTENT, self.glance.content[self.image])
        self.assertEqual('active', self.glance.images[self.image]['status'])

    def test_keystone_stays_away(self) -> None:
        away = exception.KeystoneUnavailable(reason='connection refused')
        self.context.troubles = dict.fromkeys(range(1, 9), away)
        error = self.assertRaises(
            exception.UploadFailed, self.upload, retries=2
        )
        self.assertEqual(3, error.fields['attempts'])
        self.assertEqual(3, self.context.accesses)
        self.assertIn('connection refused', str(error))
        self.assertEqual(0, self.uploads())

    def test_other_error_of_the_parent_is_not_tried_again(self) -> None:
        self.context.troubles[1] = exception.NoCloud(reason='-')
        self.assertRaises(exception.NoCloud, self.upload)
        self.assertEqual(1, self.context.accesses)

    def test_given_up(self) -> None:
        self.glance.troubles = dict.fromkeys(range(1, 9), unavailable)
        error = self.assertRaises(
            exception.UploadFailed, self.upload, retries=2
        )
        self.assertEqual(3, self.uploads())
        self.assertEqual(3, error.fields['attempts'])
        self.assertIn('num_retries', str(error))

    def test_no_retries(self) -> None:
        self.glance.troubles = {1: unavailable}
        self.assertRaises(exception.UploadFailed, self.upload, retries=0)
        self.assertEqual(1, self.uploads())

    def test_quota_is_not_tried_again(self) -> None:
        self.glance.troubles = {
            1: lambda: Answer(413, {'error': {'message': 'over quota'}})
        }
        error = self.assertRaises(exception.GlanceError, self.upload)
        self.assertNotIsInstance(error, exception.GlanceUnavailable)
        self.assertIn('over quota', str(error))
        self.assertEqual(1, self.uploads())

    def test_image_was_deleted(self) -> None:
        del self.glance.images[self.image]
        self.assertRaises(exception.ImageNotFound, self.upload)
        self.assertEqual(1, self.uploads())

    def test_file_is_missing(self) -> None:
        self.path.unlink()
        self.assertRaises(FileNotFoundError, self.upload)


class ProofTest(UploadCase):
    """Glance has taken it all. But is it what was sent?"""

    def spoil(self, **fields: object) -> None:
        """Have Glance say something else of the image when it is asked."""

        def answer() -> Answer:
            return Answer(200, {**self.glance.images[self.image], **fields})

        self.glance.troubles[2] = answer

    def unproven(self, **fields: object) -> exception.ImageVerificationFailed:
        self.spoil(**fields)
        error = self.assertRaises(
            exception.ImageVerificationFailed, self.upload
        )
        assert isinstance(error, exception.ImageVerificationFailed)
        (name,) = fields
        self.assertEqual(name, error.fields['field'])
        self.assertEqual(fields[name], error.fields['stored'])
        # The proof would be no better the next time.
        self.assertEqual(1, self.uploads())
        return error

    def test_other_hash(self) -> None:
        self.unproven(os_hash_value=hashlib.sha512(b'other').hexdigest())

    def test_no_hash(self) -> None:
        self.unproven(os_hash_value=None)

    def test_other_size(self) -> None:
        self.unproven(size=len(CONTENT) - 1)

    def test_not_active(self) -> None:
        self.unproven(status='importing')

    def test_other_algorithm(self) -> None:
        self.glance.algorithm = 'sha256'
        # The result is the same whatever Glance hashes with.
        self.assertEqual(
            hashlib.sha512(CONTENT).hexdigest(), self.upload()['sha512']
        )

    def test_other_algorithm_and_other_hash(self) -> None:
        self.glance.algorithm = 'sha256'
        self.unproven(os_hash_value=hashlib.sha512(CONTENT).hexdigest())

    def test_glance_is_away_for_a_moment_when_it_is_asked(self) -> None:
        """A day of upload is not thrown away for one answer."""
        self.glance.troubles = {2: unavailable, 3: broken}
        self.upload()
        self.assertEqual(1, self.uploads())
