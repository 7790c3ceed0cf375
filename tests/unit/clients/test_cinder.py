# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ddt
import requests
import requests_mock
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import CinderAccess
from nova_snapshot_driver.clients.cinder import Cinder
from nova_snapshot_driver.clients.cinder import VolumeSnapshot
from tests.unit import tables
from tests.unit.fake_cinder import ENDPOINT
from tests.unit.fake_cinder import FakeCinder
from tests.unit.fake_cinder import Trouble

VOLUME = '5f2c9d54-1c57-4b8e-8f49-3f6f0fd1a1b2'


class CinderCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.mocker = requests_mock.Mocker()
        self.mocker.start()
        self.addCleanup(self.mocker.stop)
        self.fake = FakeCinder([VOLUME])
        self.fake.mocked(self.mocker)
        self.cinder = self.connect()

    def connect(self, **fields: Any) -> Cinder:
        return Cinder(CinderAccess(ENDPOINT, **{'token': 't0ken', **fields}))

    def create(self) -> VolumeSnapshot:
        return self.cinder.create_snapshot(VOLUME, 'a name', None, {'a': 'b'})


@ddt.ddt
class CallsTest(CinderCase):
    def test_volume(self) -> None:
        self.fake.volumes[VOLUME] |= {
            'attachments': [{'server_id': 'web-1'}],
            'multiattach': True,
            'volume_image_metadata': {'os_type': 'linux'},
        }
        volume = self.cinder.volume(VOLUME)
        self.assertEqual(
            ('of disk 0', 1, True, ('web-1',), {'os_type': 'linux'}),
            (
                volume.description,
                volume.size,
                volume.multiattach,
                volume.servers,
                volume.image_properties,
            ),
        )

    def test_volume_without_an_image(self) -> None:
        self.assertEqual({}, self.cinder.volume(VOLUME).image_properties)

    def test_snapshot(self) -> None:
        made = self.create()
        self.assertEqual('creating', made.status)
        self.assertEqual({'a': 'b'}, made.metadata)
        self.assertFalse(made.is_point_in_time)
        self.assertEqual([made], self.cinder.snapshots_of(VOLUME))
        self.assertTrue(self.cinder.snapshot(made.id).is_point_in_time)

    def test_delete(self) -> None:
        made = self.create()
        self.assertRaises(
            exception.CinderError, self.cinder.delete_snapshot, made.id
        )
        self.cinder.snapshot(made.id)
        self.cinder.snapshot(made.id)
        self.cinder.delete_snapshot(made.id)
        self.cinder.snapshots_of(VOLUME)
        # Deleting a missing snapshot is no error.
        self.cinder.delete_snapshot(made.id)
        self.assertEqual({}, self.fake.snapshots)

    @tables.rows({'some': (5, 4), 'none': (1, 0), 'no_limit': (-1, None)})
    def test_room(self, most: int, expected: int | None) -> None:
        self.create()
        self.fake.most = most
        self.assertEqual(expected, self.cinder.room_for_snapshots())

    @tables.rows(
        {
            'begun': ('creating', '0%', False),
            'done_by_nova': ('creating', '90%', True),
            'nearly': ('creating', '100%', True),
            'secret': ('creating', None, False),
            'there': ('available', '100%', True),
            'failed': ('error', '90%', False),
        }
    )
    def test_is_point_in_time(
        self, status: str, progress: str | None, expected: bool
    ) -> None:
        snapshot = VolumeSnapshot('x', VOLUME, status, progress, {})
        self.assertIs(expected, snapshot.is_point_in_time)
        self.assertIs(status == 'error', snapshot.is_hopeless)


@ddt.ddt
class ErrorsTest(CinderCase):
    @tables.rows(
        {
            '400': (400, exception.CinderError),
            '401': (401, exception.CinderError),
            '403': (403, exception.CinderError),
            '404': (404, exception.VolumeNotFound),
            '408': (408, exception.CinderUnavailable),
            '413': (413, exception.CinderOverLimit),
            '429': (429, exception.CinderUnavailable),
            '500': (500, exception.CinderUnavailable),
            '503': (503, exception.CinderUnavailable),
        }
    )
    def test_answer(
        self, status: int, expected: type[exception.CinderError]
    ) -> None:
        self.fake.troubles['create_1'] = lambda: (
            status,
            {'error': {'message': 'Go away'}},
        )
        error = self.assertRaises(exception.CinderError, self.create)
        self.assertIs(expected, type(error))
        self.assertEqual(VOLUME, error.fields['volume'])
        self.assertIn('Go away', error.fields['reason'])
        self.assertEqual(['create_1'], self.fake.requests)

    @tables.rows(
        {
            'breaks': (requests.exceptions.ConnectionError('Connection'),),
            'is_silent': (requests.exceptions.ReadTimeout('Read timed out'),),
            'is_refused': (requests.exceptions.ConnectTimeout('No route'),),
        }
    )
    def test_connection(self, failure: Exception) -> None:
        def fail() -> tuple[int, Any]:
            raise failure

        trouble: Trouble = fail
        self.fake.troubles['create_1'] = trouble
        self.assertRaises(exception.CinderUnavailable, self.create)
        # The first one may have made a snapshot.
        self.assertEqual(['create_1'], self.fake.requests)

    @tables.rows(
        {
            'html': ('<html>It works</html>',),
            'another_document': ('{"a": "b"}',),
            'nothing': ('',),
        }
    )
    def test_answer_of_somebody_else(self, text: str) -> None:
        self.mocker.get(f'{ENDPOINT}/volumes/{VOLUME}', text=text)
        self.assertRaises(
            exception.CinderUnavailable, self.cinder.volume, VOLUME
        )

    def test_retry_after(self) -> None:
        """Nobody waits for that while a guest stands still."""
        self.mocker.post(
            f'{ENDPOINT}/snapshots',
            status_code=413,
            headers={'Retry-After': '3'},
        )
        self.assertRaises(exception.CinderOverLimit, self.create)
        self.assertEqual(1, self.mocker.call_count)


class AccessTest(CinderCase):
    def test_tokens(self) -> None:
        self.connect(service_token='s3rvice').volume(VOLUME)
        headers = self.fake.headers[-1]
        self.assertEqual('t0ken', headers['X-Auth-Token'])
        self.assertEqual('s3rvice', headers['X-Service-Token'])

    def test_no_service_token(self) -> None:
        self.cinder.volume(VOLUME)
        self.assertNotIn('X-Service-Token', self.fake.headers[-1])

    def test_global_request_id(self) -> None:
        self.connect(global_request_id='req-1').volume(VOLUME)
        headers = self.fake.headers[-1]
        self.assertEqual('req-1', headers['X-OpenStack-Request-ID'])

    def test_tls(self) -> None:
        cinder = self.connect(
            cacert='/ca.pem', certificate='/cert.pem', key='/key.pem'
        )
        cinder.volume(VOLUME)
        request = self.mocker.last_request
        assert request is not None
        self.assertEqual('/ca.pem', request.verify)
        self.assertEqual(('/cert.pem', '/key.pem'), request.cert)

    def test_insecure(self) -> None:
        self.connect(insecure=True, timeout=7).volume(VOLUME)
        request = self.mocker.last_request
        assert request is not None
        self.assertIs(False, request.verify)
        self.assertEqual(7, request.timeout)

    def test_secrets_are_not_shown(self) -> None:
        access = CinderAccess(ENDPOINT, token='t0ken', service_token='s3rvice')
        for secret in ('t0ken', 's3rvice'):
            self.assertNotIn(secret, repr(access))
