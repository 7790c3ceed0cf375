# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import ddt
import fixtures
import requests_mock
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.clients.glance import discard_unfinished
from tests.unit import tables
from tests.unit.fake_glance import ENDPOINT
from tests.unit.fake_glance import Answer
from tests.unit.fake_glance import FakeGlance
from tests.unit.fake_glance import broken
from tests.unit.fake_glance import unavailable
from tests.unit.host import TIMEOUT
from tests.unit.host import NoWaiting


class NoCertificates(fixtures.Fixture):
    """Nothing around this process names any; it would go before ours."""

    def _setUp(self) -> None:
        for name in ('REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'):
            self.useFixture(fixtures.EnvironmentVariable(name))


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


class ConnectionsTest(GlanceCase):
    def test_they_end_with_it(self) -> None:
        """Not when the garbage collector comes by."""
        gc.disable()
        self.addCleanup(gc.enable)
        glance = Glance(GlanceAccess(ENDPOINT, token='token'))
        session = weakref.ref(glance._client.http_client.session)
        self.assertIsNotNone(session())
        del glance
        self.assertIsNone(session())


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

    def test_token_and_bound(self) -> None:
        self.glance.get(self.fake.add())
        request = self.mocker.request_history[0]
        self.assertEqual(b't0ken', request.headers['X-Auth-Token'])
        self.assertEqual(7, request.timeout)

    def test_no_token(self) -> None:
        Glance(GlanceAccess(ENDPOINT)).get(self.fake.add())
        for name in ('X-Auth-Token', 'X-Service-Token'):
            self.assertNotIn(name, self.mocker.request_history[0].headers)

    def test_certificates(self) -> None:
        self.useFixture(NoCertificates())
        access = GlanceAccess(
            'https://glance.example.com',
            cacert='/ca.pem',
            certificate='/certificate.pem',
            key='/key.pem',
        )
        Glance(access).get(self.fake.add())
        request = self.mocker.request_history[0]
        self.assertEqual('/ca.pem', request.verify)
        self.assertEqual(('/certificate.pem', '/key.pem'), request.cert)

    def test_insecure(self) -> None:
        self.useFixture(NoCertificates())
        access = GlanceAccess('https://glance.example.com', insecure=True)
        Glance(access).get(self.fake.add())
        self.assertIs(False, self.mocker.request_history[0].verify)

    def test_global_request_id(self) -> None:
        access = GlanceAccess(ENDPOINT, global_request_id='req-1')
        Glance(access).get(self.fake.add())
        for request in self.fake.requests:
            self.assertEqual(
                'req-1', request.headers['X-OpenStack-Request-ID']
            )


class TokensTest(GlanceCase):
    """The tokens of a user and of a service, in all that a snapshot asks."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))

    def use(self, service_token: str | None) -> None:
        """Make every kind of request."""
        glance = Glance(
            GlanceAccess(ENDPOINT, token='t0ken', service_token=service_token)
        )
        image = glance.create(name='web').id
        glance.update(image, disk_format='raw', container_format='bare')
        self.assertEqual('queued', glance.get(image).status)
        glance.delete(image)
        self.fake.troubles[len(self.fake.requests) + 1] = unavailable
        self.assertRaises(exception.GlanceUnavailable, glance.get, image)
        self.assertEqual(
            {'POST', 'PATCH', 'GET', 'DELETE'},
            {request.method for request in self.fake.requests},
        )

    def test_both_are_in_every_request(self) -> None:
        self.use('s3rvice')
        for request in self.fake.requests:
            self.assertEqual('t0ken', request.headers['X-Auth-Token'])
            self.assertEqual('s3rvice', request.headers['X-Service-Token'])

    def test_no_service_asks(self) -> None:
        self.use(None)
        for request in self.fake.requests:
            self.assertEqual('t0ken', request.headers['X-Auth-Token'])
            self.assertNotIn('X-Service-Token', request.headers)

    def test_none_is_in_the_log(self) -> None:
        self.use('s3rvice')
        # The client has told all that it tells.
        self.assertIn('X-Auth-Token', self.log.output)
        self.assertIn('curl -g -i -X PATCH', self.log.output)
        for token in ('t0ken', 's3rvice'):
            self.assertNotIn(token, self.log.output)

    def test_none_is_in_an_error(self) -> None:
        glance = Glance(
            GlanceAccess(ENDPOINT, token='t0ken', service_token='s3rvice')
        )
        self.fake.troubles = {
            1: broken,
            2: unavailable,
            3: lambda: Answer(401, {'error': {'message': 'no way'}}),
        }
        for _number in self.fake.troubles:
            error = self.assertRaises(
                exception.GlanceError, glance.get, 'the-image'
            )
            for token in ('t0ken', 's3rvice'):
                self.assertNotIn(token, f'{error} {error.__cause__!r}')


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
            fixtures.MockPatch(
                'nova_snapshot_driver.clients.glance.DELETE_TIMEOUT', 0
            )
        )
        name = self.fake.add()
        self.fake.troubles = {1: unavailable, 2: unavailable}
        self.assertRaises(
            exception.GlanceUnavailable, self.glance.delete, name
        )


@ddt.ddt
class DeleteInAnUploadTest(GlanceCase):
    """Glance has all of the data, or has lost its client, but not said so."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.clients.glance.UPLOAD_END_TIMEOUT',
                TIMEOUT,
            )
        )
        self.name = self.fake.add(status='saving')
        # The client knows the fields of an image by then.
        self.glance.get(self.name)

    def answer(self, **fields: Any) -> Answer:
        self.fake.images[self.name].update(fields)
        return Answer(200, dict(self.fake.images[self.name]))

    def deleted_in(self) -> int:
        """How many requests it takes."""
        before = len(self.fake.requests)
        self.glance.delete(self.name)
        self.assertEqual({}, self.fake.images)
        return len(self.fake.requests) - before

    @tables.rows({status: (status,) for status in ('queued', 'active')})
    def test_its_end_is_waited_for(self, status: str) -> None:
        looks = len(self.fake.requests)
        self.fake.troubles = {
            looks + 3: unavailable,
            looks + 4: broken,
            looks + 5: lambda: self.answer(status=status),
        }
        self.assertEqual(6, self.deleted_in())

    def test_somebody_else_deletes_it(self) -> None:
        self.fake.troubles = {
            len(self.fake.requests) + 2: lambda: self.answer(status='saving'),
            len(self.fake.requests) + 3: lambda: Answer(404),
        }
        self.glance.delete(self.name)
        self.assertNotIn(
            'DELETE', [each.method for each in self.fake.requests]
        )

    def test_it_never_ends(self) -> None:
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.clients.glance.UPLOAD_END_TIMEOUT', 0
            )
        )
        self.assertEqual(2, self.deleted_in())


@ddt.ddt
class DiscardTest(GlanceCase):
    """The remains of a dead snapshot."""

    @tables.rows(
        {
            status: (status,)
            for status in ('queued', 'saving', 'uploading', 'importing')
        }
    )
    def test_unfinished(self, status: str) -> None:
        name = self.fake.add(status=status)
        discard_unfinished(self.glance, name)
        self.assertEqual({}, self.fake.images)

    def test_active(self) -> None:
        name = self.fake.add(status='active')
        discard_unfinished(self.glance, name)
        self.assertEqual([name], list(self.fake.images))

    def test_deleted_by_somebody_else(self) -> None:
        discard_unfinished(self.glance, 'missing')

    def test_nobody_knows_its_status(self) -> None:
        name = self.fake.add()
        self.fake.troubles[1] = unavailable
        self.assertRaises(
            exception.GlanceUnavailable, discard_unfinished, self.glance, name
        )
        self.assertEqual([name], list(self.fake.images))


class ErrorsTest(GlanceCase):
    def test_status(self) -> None:
        self.fake.troubles[1] = lambda: Answer(
            404, {'error': {'message': 'no way'}}
        )
        error = self.assertRaises(
            exception.ImageNotFound, self.glance.get, 'the-image'
        )
        self.assertIn(ENDPOINT, str(error))
        self.assertEqual('the-image', error.fields['image'])

    def test_connection_breaks(self) -> None:
        self.fake.troubles[1] = broken
        error = self.assertRaises(
            exception.GlanceUnavailable, self.glance.get, 'the-image'
        )
        self.assertIn('read the image', str(error))

    def test_connection_breaks_after_an_answer(self) -> None:
        """The error of a request is not taken from an earlier answer."""
        image = self.fake.add()
        # The client asks for the fields of an image too.
        self.fake.late_troubles[2] = broken
        self.assertRaises(exception.GlanceUnavailable, self.glance.get, image)
        self.assertEqual(2, len(self.fake.requests))

    def test_reason_is_never_empty(self) -> None:
        self.fake.troubles[1] = lambda: Answer(503)
        error = self.assertRaises(
            exception.GlanceUnavailable, self.glance.get, 'the-image'
        )
        self.assertNotEqual('', error.fields['reason'])


def in_use() -> Answer:
    return Answer(409, {'error': {'message': 'Image is in use'}})
