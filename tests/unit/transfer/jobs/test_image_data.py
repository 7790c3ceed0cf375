# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from collections.abc import Iterator

import ddt
import fixtures
import requests_mock
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.transfer.jobs.image_data import ImageData
from tests.unit import tables
from tests.unit.fake_glance import ENDPOINT
from tests.unit.fake_glance import Answer
from tests.unit.fake_glance import FakeGlance
from tests.unit.fake_glance import broken

#: As Glance says it.
REFUSAL = """\
<html>
 <head>
  <title>413 Request Entity Too Large</title>
 </head>
 <body>
  <h1>413 Request Entity Too Large</h1>
  Image exceeds the storage quota: 5 &gt; 4.<br /><br />


 </body>
</html>"""


class ImageDataCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.fake = FakeGlance()
        self.mocker = requests_mock.Mocker()
        self.mocker.start()
        self.addCleanup(self.mocker.stop)
        self.fake.mocked(self.mocker)
        self.image = self.fake.add(disk_format='raw', container_format='bare')
        self.data = ImageData(
            GlanceAccess(ENDPOINT, token='t0ken', timeout=7), self.image
        )


class SendTest(ImageDataCase):
    def test_size_is_said_beforehand(self) -> None:
        self.data.send([b'im', b'age'], 5)
        self.assertEqual(b'image', self.fake.content[self.image])
        (sent,) = self.fake.requests
        self.assertEqual('5', sent.headers['x-openstack-image-size'])
        self.assertEqual('chunked', sent.headers['Transfer-Encoding'])
        self.assertNotIn('Content-Length', sent.headers)

    def test_nothing(self) -> None:
        self.data.send([], 0)
        self.assertEqual(b'', self.fake.content[self.image])
        (sent,) = self.fake.requests
        self.assertEqual('0', sent.headers['x-openstack-image-size'])

    def test_content_of_another_size(self) -> None:
        for size, came in ((6, '5 came'), (4, 'more came')):
            error = self.assertRaises(
                exception.GlanceError, self.data.send, [b'im', b'age'], size
            )
            self.assertIn(came, str(error))
        self.assertEqual('queued', self.fake.images[self.image]['status'])

    def test_file_that_can_not_be_read(self) -> None:
        def torn() -> Iterator[bytes]:
            yield b'im'
            raise OSError(5, 'Input/output error')

        self.assertRaises(
            exception.GlanceUnavailable, self.data.send, torn(), 5
        )


@ddt.ddt
class AccessTest(ImageDataCase):
    def test_image(self) -> None:
        self.fake.images[self.image].update(size=5, os_type='linux')
        image = self.data.image()
        self.assertEqual((self.image, 5), (image.id, image.size))
        self.assertIsNone(image.os_hash_value)
        self.assertEqual('linux', image.properties['os_type'])
        # No schema is asked for.
        self.assertEqual(1, len(self.fake.requests))

    @tables.rows(
        {
            'root': ('',),
            'slash': ('/',),
            'version': ('/v2',),
            'version_slash': ('/v2.1/',),
            'path': ('/image',),
            'path_and_version': ('/image/v2',),
        }
    )
    def test_endpoint(self, end: str) -> None:
        self.mocker.get(requests_mock.ANY, json={'id': 'the-image'})
        ImageData(GlanceAccess(ENDPOINT + end), 'the-image').image()
        path = '/image' if 'image' in end else ''
        self.assertEqual(
            f'{ENDPOINT}{path}/v2/images/the-image',
            self.mocker.request_history[-1].url,
        )

    def test_both_tokens_are_in_every_request(self) -> None:
        access = GlanceAccess(
            ENDPOINT,
            token='t0ken',
            service_token='s3rvice',
            global_request_id='req-1',
        )
        data = ImageData(access, self.image)
        data.send([b'image'], 5)
        self.assertEqual('active', data.image().status)
        for request in self.fake.requests:
            self.assertEqual('t0ken', request.headers['X-Auth-Token'])
            self.assertEqual('s3rvice', request.headers['X-Service-Token'])
            self.assertEqual(
                'req-1', request.headers['X-OpenStack-Request-ID']
            )

    def test_no_token(self) -> None:
        ImageData(GlanceAccess(ENDPOINT), self.image).image()
        (request,) = self.fake.requests
        for name in ('X-Auth-Token', 'X-Service-Token'):
            self.assertNotIn(name, request.headers)

    def test_bound(self) -> None:
        self.data.image()
        self.assertEqual(7, self.mocker.request_history[0].timeout)

    def test_certificates(self) -> None:
        """The certificates are those of the configuration alone."""
        self.useFixture(
            fixtures.EnvironmentVariable('REQUESTS_CA_BUNDLE', '/other.pem')
        )
        access = GlanceAccess(
            ENDPOINT,
            cacert='/ca.pem',
            certificate='/certificate.pem',
            key='/key.pem',
        )
        ImageData(access, self.image).image()
        request = self.mocker.request_history[0]
        self.assertEqual('/ca.pem', request.verify)
        self.assertEqual(('/certificate.pem', '/key.pem'), request.cert)

    def test_certificate_and_key_in_one_file(self) -> None:
        access = GlanceAccess(ENDPOINT, certificate='/both.pem')
        ImageData(access, self.image).image()
        self.assertEqual('/both.pem', self.mocker.request_history[0].cert)

    def test_insecure(self) -> None:
        self.useFixture(
            fixtures.EnvironmentVariable('REQUESTS_CA_BUNDLE', '/other.pem')
        )
        ImageData(GlanceAccess(ENDPOINT, insecure=True), self.image).image()
        self.assertIs(False, self.mocker.request_history[0].verify)


class ErrorsTest(ImageDataCase):
    def test_glance_says_why(self) -> None:
        self.mocker.put(
            requests_mock.ANY,
            status_code=413,
            reason='Request Entity Too Large',
            text=REFUSAL,
        )
        error = self.assertRaises(
            exception.GlanceError, self.data.send, [b'image'], 5
        )
        self.assertIs(exception.GlanceError, type(error))
        self.assertEqual(
            {
                'endpoint': ENDPOINT,
                'operation': 'upload',
                'image': self.image,
                'reason': 'HTTP 413 Request Entity Too Large: Image exceeds '
                'the storage quota: 5 > 4.',
            },
            error.fields,
        )

    def test_status(self) -> None:
        self.fake.troubles[1] = lambda: Answer(
            410, {'error': {'message': 'no way'}}
        )
        error = self.assertRaises(exception.ImageNotFound, self.data.image)
        self.assertIn('no way', error.fields['reason'])

    def test_elsewhere(self) -> None:
        """Data that nobody has taken are not taken for sent."""
        self.mocker.put(requests_mock.ANY, status_code=300)
        self.assertRaises(exception.GlanceError, self.data.send, [b'image'], 5)

    def test_connection_breaks(self) -> None:
        self.fake.troubles[1] = broken
        error = self.assertRaises(exception.GlanceUnavailable, self.data.image)
        self.assertIn('read the image', str(error))

    def test_no_document(self) -> None:
        """Something that is no Glance, such as a proxy that has none."""
        self.mocker.get(requests_mock.ANY, text='<html>come later</html>')
        self.assertRaises(exception.GlanceUnavailable, self.data.image)

    def test_reason_is_never_empty(self) -> None:
        self.fake.troubles[1] = lambda: Answer(503)
        error = self.assertRaises(exception.GlanceUnavailable, self.data.image)
        self.assertEqual('HTTP 503', error.fields['reason'][:8])

    def test_no_token_is_in_an_error_or_a_log(self) -> None:
        log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        data = ImageData(
            GlanceAccess(ENDPOINT, token='t0ken', service_token='s3rvice'),
            self.image,
        )
        self.fake.troubles = {
            1: broken,
            2: lambda: Answer(401, {'error': {'message': 'no way'}}),
        }
        for _number in self.fake.troubles:
            error = self.assertRaises(exception.GlanceError, data.image)
            for token in ('t0ken', 's3rvice'):
                self.assertNotIn(token, f'{error} {error.__cause__!r}')
                self.assertNotIn(token, log.output)
