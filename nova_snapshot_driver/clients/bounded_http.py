# SPDX-License-Identifier: Apache-2.0
"""Requests to servers that may be hostile, and the limits of their answers.

Our own requests and those of the clients of Glance, Cinder and Keystone go
through ``Bounded``, whatever library makes them:

* An answer takes no more than ``LARGEST`` bytes, including its headers and
  what it unpacks to, and no more time than the timeout of its request,
  however slowly it drips.
* No request follows a redirection to another origin: it would take its token
  along, or a password.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import io
import logging
import math
import time
import urllib.parse
import zlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from http import HTTPStatus
from http import client
from typing import Any

import requests
from requests import adapters
from requests import utils
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import LocationParseError
from urllib3.poolmanager import PoolManager
from urllib3.util import parse_url

from nova_snapshot_driver.common import reason

# The data plane has this module too, and no time to load oslo.log.
LOG = logging.getLogger(__name__)

#: The bytes of one answer, with its headers and with those that its body is
#: unpacked to. A record, an error and a token with its catalog are smaller.
LARGEST = 1 << 20

#: The content encodings that are asked for, and decoded here.
ENCODINGS = 'gzip, deflate'

#: The window of zlib, for a stream with the header of gzip or of zlib.
_ANY_WINDOW = zlib.MAX_WBITS | 32

_PORTS = {'http': 80, 'https': 443}

#: The answers that some client follows: keystoneauth follows 305, too.
_REDIRECTIONS = (
    HTTPStatus.MOVED_PERMANENTLY,
    HTTPStatus.FOUND,
    HTTPStatus.SEE_OTHER,
    HTTPStatus.USE_PROXY,
    HTTPStatus.TEMPORARY_REDIRECT,
    HTTPStatus.PERMANENT_REDIRECT,
)


class Refused(Exception):
    """A refusal to take an answer, which is the same at every attempt.

    The class is no error of requests or of the system: a client that
    translates those, or tries them again, lets this one through.
    """


class OtherOrigin(Refused):
    """A server redirects a request, with its secrets, to another origin."""

    def __init__(self, url: str, other: str) -> None:
        super().__init__(
            f'{origin(url)} sends on to {other}, where no token or password '
            'goes. Have the catalog, or the option that names the address, '
            'name the right one'
        )


class TooLong(Refused):
    """An answer is larger than any that a sane server sends."""

    def __init__(self, size: int) -> None:
        super().__init__(f'the answer has more than {size} bytes')


def origin(url: str) -> str:
    """Scheme, host and port of a URL, as requests parses it.

    :raises requests.exceptions.InvalidURL: it has none
    """
    try:
        parts = parse_url(url)
    except LocationParseError as error:
        raise requests.exceptions.InvalidURL(str(error)) from error
    scheme = (parts.scheme or '').lower()
    port = parts.port or _PORTS.get(scheme)
    return f'{scheme}://{(parts.host or "").lower()}:{port}'


class _Allowance:
    """The time and the bytes that an answer, or several, may still take.

    :param until: when the time is over (``time.monotonic``)
    :ivar left: in bytes
    """

    def __init__(self, size: int, until: float = math.inf) -> None:
        self.until = until
        self.left = size
        self._size = size

    def spend(self, count: int) -> None:
        """
        :raises TooLong: there are not as many left
        """
        self.left -= count
        if self.left < 0:
            raise TooLong(self._size)


_allowance: contextvars.ContextVar[_Allowance | None] = contextvars.ContextVar(
    'allowance', default=None
)


@contextlib.contextmanager
def _spending(allowance: _Allowance) -> Iterator[None]:
    token = _allowance.set(allowance)
    try:
        yield
    finally:
        _allowance.reset(token)


@contextlib.contextmanager
def together(seconds: float, size: int) -> Iterator[None]:
    """Bound the answers inside together, as those of the pages of a list.

    :param seconds: that they may take
    :param size: of all of them, in bytes
    """
    with _spending(_Allowance(size, time.monotonic() + seconds)):
        yield


class Bounded(adapters.BaseAdapter):
    """A transport adapter of requests that bounds the answers of another one.

    :param adapter: with the settings of the session, as of TLS
    :param endpoint: the URL whose origin alone is asked; None for any, as
        Keystone's session asks several
    """

    def __init__(
        self, adapter: adapters.HTTPAdapter, endpoint: str | None = None
    ) -> None:
        super().__init__()
        self._adapter = adapter
        self._endpoint = endpoint
        _bound(adapter.poolmanager)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request, and read all of its answer.

        :raises OtherOrigin: the answer names another server, or an earlier
            one has
        :raises TooLong: the answer has too many bytes
        :raises requests.RequestException: as from the adapter
        """
        url = request.url or ''
        if self._endpoint and origin(url) != origin(self._endpoint):
            raise OtherOrigin(self._endpoint, origin(url))
        request.headers['Accept-Encoding'] = ENCODINGS
        self._bound_proxy(url, proxies)
        allowance = _allowance.get() or _Allowance(LARGEST)
        with _spending(allowance), _logged(request) as log:
            response = self._adapter.send(
                request,
                stream=True,
                timeout=timeout,
                verify=verify,
                cert=cert,
                proxies=proxies,
            )
            try:
                _see_origin(response)
                # requests does not read the body again where it is set
                # already.
                response._content = _content(response, allowance)
            except BaseException:
                response.close()
                raise
            log(f'{response.status_code}, {len(response.content)} bytes')
        return response

    def close(self) -> None:
        self._adapter.close()

    def _bound_proxy(
        self, url: str, proxies: Mapping[str, str] | None
    ) -> None:
        """Bound what a proxy passes on; requests keeps a manager for each."""
        proxy = utils.select_proxy(url, dict(proxies or {}))
        if proxy:
            named = utils.prepend_scheme_if_needed(proxy, 'http')
            _bound(self._adapter.proxy_manager_for(named))


def bound(session: requests.Session, endpoint: str | None = None) -> None:
    """Bound all that a session sends; its other settings stay.

    :param endpoint: as of ``Bounded``
    """
    for prefix, adapter in list(session.adapters.items()):
        # An adapter that is bounded already is no HTTPAdapter.
        if isinstance(adapter, adapters.HTTPAdapter):
            session.mount(prefix, Bounded(adapter, endpoint))


@contextlib.contextmanager
def _logged(
    request: requests.PreparedRequest,
) -> Iterator[Callable[[str], None]]:
    """Log a request that is sent inside, for whoever debugs.

    Its headers and its body have tokens and passwords in them, and so may the
    user and the query of its URL: none of these is logged, and of an error
    nothing but its class, since some quote the header that they refuse.

    :returns: logs its answer, in words
    """
    began = time.monotonic()
    url = request.url or ''

    def log(end: str) -> None:
        LOG.debug(
            '%s %s%s: %s (%.3f s)',
            request.method,
            origin(url),
            reason.plain(parse_url(url).path or ''),
            end,
            time.monotonic() - began,
        )

    try:
        yield log
    except Exception as error:
        log(type(error).__name__)
        raise


def _see_origin(response: requests.Response) -> None:
    """
    :raises OtherOrigin: it names another one to go on with
    """
    location = response.headers.get('Location')
    if response.status_code not in _REDIRECTIONS or not location:
        return
    there = requests.PreparedRequest()
    # Parse the URL as it will be parsed when it is followed: the host of one
    # parser is the user of another.
    there.prepare_url(urllib.parse.urljoin(response.url, location), None)
    other = origin(there.url or '')
    if other != origin(response.url):
        raise OtherOrigin(response.url, other)


def _content(response: requests.Response, allowance: _Allowance) -> bytes:
    """The body, decoded.

    :raises TooLong: it has too many bytes, decoded or not
    :raises Refused: it can't be decoded
    """
    encoding = response.headers.get('Content-Encoding', 'identity').lower()
    # urllib3 would decode the body itself, without a bound.
    response.raw.headers.pop('Content-Encoding', None)
    body = b''.join(response.iter_content(io.DEFAULT_BUFFER_SIZE))
    if encoding == 'identity':
        return body
    if encoding not in ('gzip', 'x-gzip', 'deflate'):
        raise Refused(f'the answer is encoded with {encoding}, unasked')
    decoder = zlib.decompressobj(_ANY_WINDOW)
    try:
        decoded = decoder.decompress(body, allowance.left + 1)
    except zlib.error as error:
        raise Refused(f'the answer is no {encoding}: {error}') from error
    allowance.spend(len(decoded))
    return decoded


def _bound(manager: PoolManager) -> None:
    """Have the connections of a manager read bounded answers."""
    manager.pool_classes_by_scheme = {
        scheme: _bounded(pool)
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }


@functools.cache
def _bounded(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """The class of a pool, whose connections read bounded answers."""
    connection = pool.ConnectionCls
    if getattr(connection, 'response_class', None) is _Answer:
        return pool
    reading = type(
        connection.__name__, (connection,), {'response_class': _Answer}
    )
    return type(pool.__name__, (pool,), {'ConnectionCls': reading})


class _Answer(client.HTTPResponse):
    """An answer whose every byte is counted, headers included."""

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(_Source(sock), *arguments, **options)  # type: ignore[arg-type]


class _Source:
    """The part of a socket's interface that an answer needs."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Wire(self._sock))


class _Wire(io.RawIOBase):
    """The bytes that come from a socket, within an allowance.

    The clock starts with the answer: the upload before it has a timeout of its
    own.
    """

    def __init__(self, sock: Any) -> None:
        super().__init__()
        self._sock = sock
        self._file = sock.makefile('rb', buffering=0)
        self._timeout: float | None = sock.gettimeout()
        self._allowance = _allowance.get() or _Allowance(LARGEST)
        self._until = min(
            self._allowance.until,
            time.monotonic() + (self._timeout or math.inf),
        )

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._patience())
        try:
            count: int | None = self._file.readinto(buffer)
        finally:
            # Restore the timeout: the connection may be used again.
            self._sock.settimeout(self._timeout)
        self._allowance.spend(count or 0)
        return count

    def _patience(self) -> float | None:
        """The seconds that are left; None for any.

        :raises TimeoutError: none are
        """
        if self._until == math.inf:
            return None
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError('the answer is not complete in time')
        return left

    def close(self) -> None:
        self._file.close()
        super().close()
