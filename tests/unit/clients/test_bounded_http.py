# SPDX-License-Identifier: Apache-2.0
"""A server that lies gets no token, no memory and no time of ours.

Each client asks a real one, through a socket.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gzip
import itertools
import json
import logging
import socket
import zlib
from collections.abc import Callable
from collections.abc import Iterator

import ddt
import fixtures
import requests
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import bounded_http
from nova_snapshot_driver.clients.access import CinderAccess
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.clients.cinder import Cinder
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.cmd.shared import cloud
from nova_snapshot_driver.transfer.jobs.image_data import ImageData
from tests.unit import tables
from tests.unit.cmd.command import NoCloud
from tests.unit.lying_server import LyingServer
from tests.unit.lying_server import document
from tests.unit.lying_server import redirection

TOKEN = 't0ken-of-the-user'
SERVICE_TOKEN = 's3rvice-token'
PASSWORD = 'pa55word-of-the-user'
SECRETS = (TOKEN, SERVICE_TOKEN, PASSWORD)

IMAGE = '4b3b6c1e-1d5b-4d0f-a8a3-3d8e5d1a3f10'
VOLUME = '5f2c9d54-1c57-4b8e-8f49-3f6f0fd1a1b2'

#: The schema that Glance's client asks for before it writes.
SCHEMA = json.dumps(
    {
        'name': 'image',
        'properties': {},
        'additionalProperties': {'type': 'string'},
    }
)

STATUSES = (301, 302, 303, 305, 307, 308)

#: The seconds that a client waits for the whole of an answer, and those that
#: are enough for any that ends.
TIMEOUT = 0.3
ENOUGH = 30


def glance(url: str, timeout: float = TIMEOUT) -> Glance:
    return Glance(
        GlanceAccess(
            url, token=TOKEN, service_token=SERVICE_TOKEN, timeout=timeout
        )
    )


def data(url: str, timeout: float = TIMEOUT) -> ImageData:
    return ImageData(
        GlanceAccess(
            url, token=TOKEN, service_token=SERVICE_TOKEN, timeout=timeout
        ),
        IMAGE,
    )


def cinder(url: str, timeout: float = TIMEOUT) -> Cinder:
    return Cinder(
        CinderAccess(
            url, token=TOKEN, service_token=SERVICE_TOKEN, timeout=timeout
        )
    )


def keystone(url: str, timeout: float = TIMEOUT) -> object:
    """The command line asks for a token, with a password."""
    variables = {
        'OS_AUTH_URL': f'{url}/v3',
        'OS_AUTH_TYPE': 'v3password',
        'OS_USERNAME': 'alice',
        'OS_PASSWORD': PASSWORD,
        'OS_PROJECT_NAME': 'shop',
        'OS_USER_DOMAIN_NAME': 'Default',
        'OS_PROJECT_DOMAIN_NAME': 'Default',
    }
    arguments = argparse.Namespace(os_cloud=None, glance_url=None)
    with fixtures.MockPatch('os.environ', variables):
        asked = cloud.of(arguments, conf.load([]))
        assert isinstance(asked, cloud.Cloud)
        asked._session.timeout = timeout
        return asked.glance_access()


#: Each call of each client, by the method of the request that is its own.
CALLS: dict[str, tuple[str, Callable[[str], object]]] = {
    'glance_create': ('POST', lambda url: glance(url).create(name='web')),
    'glance_get': ('GET', lambda url: glance(url).get(IMAGE)),
    'glance_update': (
        'PATCH',
        lambda url: glance(url).update(IMAGE, os_type='linux'),
    ),
    'glance_activate': ('PUT', lambda url: glance(url).activate_empty(IMAGE)),
    'glance_delete': ('DELETE', lambda url: glance(url)._delete(IMAGE)),
    'data_get': ('GET', lambda url: data(url).image()),
    'data_put': ('PUT', lambda url: data(url).send([b'image'], 5)),
    'cinder_get': ('GET', lambda url: cinder(url).volume(VOLUME)),
    'cinder_list': ('GET', lambda url: cinder(url).snapshots_of(VOLUME)),
    'cinder_post': (
        'POST',
        lambda url: cinder(url).create_snapshot(VOLUME, 'a', None, {}),
    ),
    'cinder_delete': (
        'DELETE',
        lambda url: cinder(url).delete_snapshot(VOLUME),
    ),
    'keystone': ('POST', keystone),
}

FAMILIES = (
    exception.GlanceError,
    exception.CinderError,
    exception.CloudUnavailable,
)

#: A call of each client, which reads an answer.
READERS: dict[str, Callable[[str, float], object]] = {
    'glance': lambda url, timeout: glance(url, timeout).get(IMAGE),
    'data': lambda url, timeout: data(url, timeout).image(),
    'cinder': lambda url, timeout: cinder(url, timeout).volume(VOLUME),
    'keystone': keystone,
}


class LyingCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(NoCloud())
        self.server = self.useFixture(LyingServer())

    def refused(
        self, call: Callable[..., object], *timeout: float
    ) -> exception.SnapshotError:
        error = self.assertRaises(
            exception.SnapshotError, call, self.server.url, *timeout
        )
        self.assertIsInstance(error, FAMILIES)
        for secret in SECRETS:
            self.assertNotIn(secret, str(error))
        return error


@ddt.ddt
class DebugTest(LyingCase):
    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))

    def lines(self) -> list[str]:
        return [
            line
            for line in self.log.output.splitlines()
            if self.server.url in line and ' s)' in line
        ]

    @tables.rows({name: (call,) for name, (_, call) in CALLS.items()})
    def test_request_is_logged(self, call: Callable[[str], object]) -> None:
        with contextlib.suppress(exception.SnapshotError):
            call(self.server.url)
        self.assertTrue(
            any('200, 2 bytes' in line for line in self.lines()),
            self.log.output,
        )
        self.no_secret_is_logged()

    @tables.rows({name: (call,) for name, (_, call) in CALLS.items()})
    def test_request_that_fails_is_logged(
        self, call: Callable[[str], object]
    ) -> None:
        self.server.answer = lambda _method, _path: iter([b'no HTTP'])
        with contextlib.suppress(exception.SnapshotError):
            call(self.server.url)
        self.assertTrue(
            any('ConnectionError' in line for line in self.lines()),
            self.log.output,
        )
        self.no_secret_is_logged()

    def test_secrets_of_a_url_are_not(self) -> None:
        session = requests.Session()
        bounded_http.bound(session)
        place = self.server.url.removeprefix('http://')
        session.get(f'http://alice:{PASSWORD}@{place}/a?token={TOKEN}')
        self.assertIn(f'GET http://{place}/a: 200', self.log.output)
        self.no_secret_is_logged()

    def no_secret_is_logged(self) -> None:
        for line in self.lines():
            for secret in SECRETS:
                self.assertNotIn(secret, line)


@ddt.ddt
class OtherOriginTest(LyingCase):
    def setUp(self) -> None:
        super().setUp()
        self.other = self.useFixture(LyingServer())

    def redirect(self, method: str, status: int, location: str) -> None:
        """Send the requests of a method elsewhere, and answer the others."""
        record = {'id': IMAGE, 'status': 'queued'}

        def answer(asked: str, path: str) -> Iterator[bytes]:
            if 'schemas' in path:
                yield document(SCHEMA)
            elif asked == method:
                yield redirection(status, location + path)
            else:
                yield document(json.dumps(record))

        self.server.answer = answer

    @tables.rows(
        {
            f'{name}_{status}': (*CALLS[name], status)
            for name in CALLS
            for status in STATUSES
        }
    )
    def test_gets_nothing(
        self, method: str, call: Callable[[str], object], status: int
    ) -> None:
        self.redirect(method, status, self.other.url)
        error = self.refused(call)
        self.assertIn(self.other.url, str(error))
        self.assertIn('catalog', str(error))
        self.assertNotIsInstance(
            error,
            exception.GlanceUnavailable | exception.CinderUnavailable,
        )
        self.assertEqual([], self.other.requests)

    @tables.rows(
        {
            'two_slashes': ('//{other}/',),
            'user': ('http://{origin}@{other}/',),
            'backslash': ('http://{other}\\@{origin}/',),
            'backslash_at_the_end': ('http://{origin}\\@{other}/',),
            'large_letters': ('HTTP://{other}/',),
            'tls': ('https://{origin}/',),
            'tab': ('\thttp://{other}/',),
        }
    )
    def test_written_oddly(self, location: str) -> None:
        written = location.format(
            other=self.other.url.removeprefix('http://'),
            origin=self.server.url.removeprefix('http://'),
        )
        self.server.answer = lambda _method, _path: iter(
            [redirection(302, written)]
        )
        for name in ('data_get', 'cinder_get', 'keystone'):
            self.server.requests.clear()
            self.refused(CALLS[name][1])
            self.assertEqual([], self.other.requests)

    def test_list_that_goes_on_there(self) -> None:
        """Cinder's client follows the links of a list without more ado."""
        link = {'rel': 'next', 'href': f'{self.other.url}/snapshots/detail'}
        page = json.dumps({'snapshots': [], 'snapshots_links': [link]})
        self.server.answer = lambda _method, _path: iter([document(page)])
        error = self.refused(CALLS['cinder_list'][1])
        self.assertIn(self.other.url, str(error))
        self.assertEqual([], self.other.requests)

    @tables.rows({name: (call,) for name, call in READERS.items()})
    def test_another_path_is_no_other_origin(
        self, call: Callable[[str, float], object]
    ) -> None:
        self.server.answer = lambda _method, path: iter(
            [
                document('{"id": "found"}')
                if 'moved' in path
                else redirection(301, f'{self.server.url}/moved{path}')
            ]
        )
        try:
            call(self.server.url, ENOUGH)
        except exception.SnapshotError as error:
            # A server need not say what it is asked for.
            self.assertNotIn('sends on', str(error))
        self.assertIn('moved', self.server.requests[-1][1])

    def test_data_that_nobody_has_taken(self) -> None:
        """A redirected upload would become a request without any."""
        self.redirect('PUT', 302, f'{self.server.url}/moved')
        self.refused(CALLS['data_put'][1])
        (only,) = self.server.requests
        self.assertEqual('PUT', only[0])


HEAD = b'HTTP/1.1 200 OK\r\n'
JSON = HEAD + b'Content-Type: application/json\r\nConnection: close\r\n'
CHUNKED = JSON + b'Transfer-Encoding: chunked\r\n\r\n'

#: Blocks that never end.
ENDLESS = itertools.repeat(b'A' * 65536)


@functools.cache
def bomb() -> bytes:
    """A small answer that unpacks to a large one."""
    packed = gzip.compress(b'{"id": "' + b' ' * (8 << 20) + b'"}')
    return b'%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s' % (
        JSON,
        len(packed),
        packed,
    )


LONG: dict[str, Callable[[], Iterator[bytes]]] = {
    'status': lambda: itertools.chain([b'HTTP/1.1 200 '], ENDLESS),
    'header': lambda: itertools.chain([HEAD, b'X: '], ENDLESS),
    'headers': lambda: itertools.chain(
        [HEAD],
        (b'X-%d: %s\r\n' % (n, b'A' * 60000) for n in itertools.count()),
    ),
    'continue': lambda: itertools.repeat(
        b'HTTP/1.1 100 Continue\r\nX: %s\r\n\r\n' % (b'A' * 60000)
    ),
    'record': lambda: itertools.chain([JSON, b'\r\n{"id": "'], ENDLESS),
    'error': lambda: itertools.chain(
        [b'HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n'], ENDLESS
    ),
    'length': lambda: itertools.chain(
        [JSON, b'Content-Length: 10000000000\r\n\r\n{"id": "'], ENDLESS
    ),
    'chunks': lambda: itertools.chain(
        [CHUNKED], itertools.repeat(b'10000\r\n' + b'A' * 65536 + b'\r\n')
    ),
    'chunk_line': lambda: itertools.chain([CHUNKED, b'1;'], ENDLESS),
    'trailer': lambda: itertools.chain([CHUNKED, b'0\r\nX: '], ENDLESS),
    'redirection': lambda: itertools.chain(
        [b'HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n'], ENDLESS
    ),
    'bomb': lambda: iter([bomb()]),
}


@ddt.ddt
class LongAnswerTest(LyingCase):
    @tables.rows(
        {
            f'{client}_{lie}': (READERS[client], LONG[lie])
            for client in READERS
            for lie in LONG
        }
    )
    def test_is_not_read(
        self,
        call: Callable[[str, float], object],
        lie: Callable[[], Iterator[bytes]],
    ) -> None:
        self.server.answer = lambda _method, _path: lie()
        error = self.refused(call, ENOUGH)
        # Of one line of it, libraries have bounds of their own.
        self.assertRegex(str(error), 'bytes|exceeded maximum')
        self.assertFalse(self.server.given_up.is_set())

    def test_after_an_upload(self) -> None:
        self.server.answer = lambda _method, _path: LONG['record']()
        error = self.refused(lambda url: data(url, ENOUGH).send([b'image'], 5))
        self.assertIn('bytes', str(error))
        self.assertNotIsInstance(error, exception.GlanceUnavailable)

    def test_list_of_many_pages(self) -> None:
        """Each page is small, and names another one."""
        link = {'rel': 'next', 'href': f'{self.server.url}/snapshots'}
        page = json.dumps(
            {'snapshots': [], 'snapshots_links': [link], 'a': 'A' * 10**6}
        )
        self.server.answer = lambda _method, _path: iter([document(page)])
        error = self.refused(
            lambda url: cinder(url, ENOUGH).snapshots_of(VOLUME)
        )
        self.assertIn('bytes', str(error))
        self.assertLess(len(self.server.requests), 20)


@ddt.ddt
class EncodedTest(LyingCase):
    @tables.rows(
        {
            'gzip': ('gzip', gzip.compress),
            'deflate': ('deflate', zlib.compress),
            'identity': ('identity', bytes),
        }
    )
    def test_is_decoded(
        self, encoding: str, encode: Callable[[bytes], bytes]
    ) -> None:
        body = encode(json.dumps({'id': IMAGE, 'status': 'queued'}).encode())
        self.server.answer = lambda _method, _path: iter(
            [
                b'%sContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s'
                % (JSON, encoding.encode(), len(body), body)
            ]
        )
        self.assertEqual(IMAGE, data(self.server.url).image().id)
        (asked,) = self.server.requests
        self.assertEqual('gzip, deflate', asked[2]['Accept-Encoding'])

    @tables.rows({'other': ('zstd',), 'twice': ('gzip, gzip',)})
    def test_is_refused(self, encoding: str) -> None:
        self.server.answer = lambda _method, _path: iter(
            [document('{}', f'Content-Encoding: {encoding}\r\n')]
        )
        self.assertIn(encoding, str(self.refused(CALLS['data_get'][1])))

    def test_is_none(self) -> None:
        self.server.answer = lambda _method, _path: iter(
            [document('{}', 'Content-Encoding: gzip\r\n')]
        )
        self.assertIn('no gzip', str(self.refused(CALLS['data_get'][1])))


#: The start of an answer, before a drop each second or so.
DRIPPING = {
    'status': b'HTTP/1.1 200 ',
    'header': HEAD + b'X: ',
    'record': JSON + b'Content-Length: 100000\r\n\r\n',
    'chunk': CHUNKED + b'1;',
}


@ddt.ddt
class SlowAnswerTest(LyingCase):
    @tables.rows(
        {
            f'{client}_{lie}': (READERS[client], DRIPPING[lie])
            for client in READERS
            for lie in DRIPPING
        }
    )
    def test_is_given_up(
        self, call: Callable[[str, float], object], beginning: bytes
    ) -> None:
        self.server.pause = TIMEOUT / 3
        self.server.answer = lambda _method, _path: itertools.chain(
            [beginning], itertools.repeat(b' ')
        )
        error = self.refused(call, TIMEOUT)
        self.assertFalse(self.server.given_up.is_set())
        self.assertIn('time', str(error))

    def test_connection_is_as_patient_afterwards(self) -> None:
        """The next request of it has a bound of its own."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        ours.settimeout(5)
        theirs.sendall(HEAD + b'Content-Length: 2\r\n\r\n{}')
        answer = bounded_http._Answer(ours)
        answer.begin()
        self.assertEqual(b'{}', answer.read())
        self.assertEqual(5, ours.gettimeout())

    def test_pages_of_a_list(self) -> None:
        """Each page comes in time, and names another one."""
        link = {'rel': 'next', 'href': f'{self.server.url}/snapshots'}
        page = json.dumps({'snapshots': [], 'snapshots_links': [link]})
        self.server.answer = lambda _method, _path: iter([document(page)])
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.clients.cinder.LONGEST_LIST', 1
            )
        )
        error = self.refused(CALLS['cinder_list'][1])
        self.assertIn('time', str(error))


@ddt.ddt
class OriginTest(testtools.TestCase):
    @tables.rows(
        {
            'port': ('http://a:80/b', 'http://A/c'),
            'tls': ('https://a', 'HTTPS://a:443/'),
            'user': ('http://a/', 'http://b@a/'),
            'address': ('http://[::1]/', 'http://[::1]:80'),
        }
    )
    def test_same(self, one: str, other: str) -> None:
        self.assertEqual(bounded_http.origin(one), bounded_http.origin(other))

    @tables.rows(
        {
            'scheme': ('http://a:80/', 'https://a:80/'),
            'host': ('http://a/', 'http://b.a/'),
            'port': ('http://a/', 'http://a:8080/'),
        }
    )
    def test_other(self, one: str, other: str) -> None:
        self.assertNotEqual(
            bounded_http.origin(one), bounded_http.origin(other)
        )

    def test_proxy(self) -> None:
        """An answer through a proxy is bounded too."""
        proxy = self.useFixture(LyingServer())
        proxy.answer = lambda _method, _path: LONG['headers']()
        session = requests.Session()
        bounded_http.bound(session)
        self.assertRaises(
            bounded_http.TooLong,
            session.get,
            'http://glance.example.com/',
            proxies={'http': proxy.url.removeprefix('http://')},
            timeout=ENOUGH,
        )
