# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json

import ddt
import fixtures
import requests_mock
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.image import Glance
from nova_snapshot_driver.image import GlanceAccess
from tests.unit import tables
from tests.unit.fake_glance import ENDPOINT
from tests.unit.fake_glance import Answer
from tests.unit.fake_glance import FakeGlance
from tests.unit.fake_glance import broken
from tests.unit.fake_glance import unavailable
from tests.unit.host import NoWaiting


class GlanceCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(NoWaiting())
        self.fake = FakeGlance()
        self.mocker = requests_mock.Mocker()
        self.mocker.start()
        self.addCleanup(self.mocker.stop)
        self.fake.mocked(self.mocker)
        self.glance = Glance(GlanceAccess(ENDPOINT, token='t0ken', timeout=7))


class AccessTest(testtools.TestCase):
    def test_token_is_not_shown(self) -> None:
        access = GlanceAccess(ENDPOINT, token='t0ken')
        self.assertNotIn('t0ken', repr(access))
        self.assertNotIn('t0ken', f'{access}')

    def test_travels_as_a_dictionary(self) -> None:
        access = GlanceAccess(ENDPOINT, 't0ken', '/ca.pem', True, 7)
        self.assertEqual(
            access, GlanceAccess(**json.loads(json.dumps(access.to_dict())))
        )


class RequestsTest(GlanceCase):
    def test_create(self) -> None:
        image = self.glance.create(
            name='web', hw_disk_bus='scsi', visibility='private'
        )
        record = self.fake.images[image.id]
        self.assertEqual('web', image.name)
        self.assertEqual('queued', image.status)
        self.assertEqual('scsi', record['hw_disk_bus'])

    def test_get(self) -> None:
        name = self.fake.add(name='web', os_type='linux', size=5)
        image = self.glance.get(name)
        self.assertEqual((name, 'web', 5), (image.id, image.name, image.size))
        self.assertIsNone(image.os_hash_value)
        self.assertEqual('linux', image.properties['os_type'])
        self.assertNotIn('size', image.properties)

    def test_update_leaves_the_others(self) -> None:
        name = self.fake.add(os_type='linux')
        self.glance.update(name, disk_format='raw', snapshot_method='cold')
        record = self.fake.images[name]
        self.assertEqual('raw', record['disk_format'])
        self.assertEqual('cold', record['snapshot_method'])
        self.assertEqual('linux', record['os_type'])

    def test_upload_says_the_size_beforehand(self) -> None:
        name = self.fake.add(disk_format='raw', container_format='bare')
        self.glance.upload(name, io.BytesIO(b'image'), 5)
        self.assertEqual(b'image', self.fake.content[name])
        sent = self.fake.requests[-1]
        self.assertEqual('5', sent.headers['x-openstack-image-size'])

    def test_wrong_size_is_refused(self) -> None:
        name = self.fake.add(disk_format='raw', container_format='bare')
        self.assertRaises(
            exception.GlanceError,
            self.glance.upload,
            name,
            io.BytesIO(b'image'),
            6,
        )
        self.assertEqual('queued', self.fake.images[name]['status'])

    def test_token_and_bound(self) -> None:
        self.glance.get(self.fake.add())
        request = self.mocker.request_history[0]
        self.assertEqual(b't0ken', request.headers['X-Auth-Token'])
        self.assertEqual(7, request.timeout)

    def test_no_token(self) -> None:
        Glance(GlanceAccess(ENDPOINT)).get(self.fake.add())
        self.assertNotIn(
            'X-Auth-Token', self.mocker.request_history[0].headers
        )


class DeleteTest(GlanceCase):
    def test_delete(self) -> None:
        name = self.fake.add()
        self.glance.delete(name)
        self.assertEqual({}, self.fake.images)

    def test_image_that_is_not_there(self) -> None:
        self.glance.delete('missing')

    def test_tried_again(self) -> None:
        name = self.fake.add()
        # In use for a moment, as an upload that broke leaves it.
        self.fake.troubles = {1: unavailable, 2: broken, 3: in_use}
        self.glance.delete(name)
        self.assertEqual({}, self.fake.images)

    def test_took_effect_and_was_not_heard(self) -> None:
        name = self.fake.add()
        self.fake.late_troubles[1] = broken
        self.glance.delete(name)
        self.assertEqual({}, self.fake.images)

    def test_forbidden(self) -> None:
        name = self.fake.add(protected=True)
        self.fake.troubles[1] = lambda: Answer(403)
        self.assertRaises(exception.GlanceError, self.glance.delete, name)
        self.assertEqual(1, len(self.fake.requests))

    def test_given_up(self) -> None:
        self.useFixture(
            fixtures.MockPatch('nova_snapshot_driver.image.DELETE_TIMEOUT', 0)
        )
        name = self.fake.add()
        self.fake.troubles = {1: unavailable}
        self.assertRaises(
            exception.GlanceUnavailable, self.glance.delete, name
        )


@ddt.ddt
class ErrorsTest(GlanceCase):
    @tables.rows(
        {
            '400': (400, exception.GlanceError),
            '401': (401, exception.GlanceError),
            '403': (403, exception.GlanceError),
            '404': (404, exception.ImageNotFound),
            '409': (409, exception.GlanceUnavailable),
            '413': (413, exception.GlanceError),
            '500': (500, exception.GlanceUnavailable),
            '502': (502, exception.GlanceUnavailable),
            '503': (503, exception.GlanceUnavailable),
            # What a proxy says that has waited for Glance.
            '504': (504, exception.GlanceUnavailable),
        }
    )
    def test_status(
        self, status: int, expected: type[exception.GlanceError]
    ) -> None:
        self.fake.troubles[1] = lambda: Answer(
            status, {'error': {'message': 'no way'}}
        )
        error = self.assertRaises(
            exception.GlanceError, self.glance.get, 'the-image'
        )
        self.assertIs(expected, type(error))
        self.assertIn(ENDPOINT, str(error))
        self.assertEqual('the-image', error.fields['image'])

    def test_connection_breaks(self) -> None:
        self.fake.troubles[1] = broken
        error = self.assertRaises(
            exception.GlanceUnavailable, self.glance.get, 'the-image'
        )
        self.assertIn('read the image', str(error))

    def test_reason_is_never_empty(self) -> None:
        self.fake.troubles[1] = lambda: Answer(503)
        error = self.assertRaises(
            exception.GlanceUnavailable, self.glance.get, 'the-image'
        )
        self.assertNotEqual('', error.fields['reason'])

    def test_file_that_can_not_be_read(self) -> None:
        name = self.fake.add(disk_format='raw', container_format='bare')

        class Torn(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                raise OSError(5, 'Input/output error')

        self.assertRaises(
            exception.GlanceUnavailable, self.glance.upload, name, Torn(), 5
        )


def in_use() -> Answer:
    return Answer(409, {'error': {'message': 'Image is in use'}})
