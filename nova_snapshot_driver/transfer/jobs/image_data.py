# SPDX-License-Identifier: Apache-2.0
"""The data of an image in Glance: sent, and compared with what Glance has.

Source: Glance's Image service API, version 2, "Image data"
"""

from __future__ import annotations

import contextlib
import http
import re
from collections.abc import Iterable
from collections.abc import Iterator

import requests

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import bounded_http
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.clients.image import Image
from nova_snapshot_driver.clients.image import refusal
from nova_snapshot_driver.common import reason

#: The bytes of an upload that are a chunk of the transfer encoding, as many as
#: Glance reads at a time. gunicorn reads ahead to the end of a chunk, and to a
#: MiB where there is none, and copies all that it has ahead each time.
CHUNK = 1 << 16

# The version that a catalog may have at the end of a URL.
_VERSION = re.compile(r'/v\d+(\.\d+)?$')


class _Refused(Exception):
    """Glance has answered with a refusal."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class _NoBlock(Exception):
    """The next block can't be made, and never will be.

    The cause is the error that says why.
    """


class ImageData:
    """The data of an image, to send them and to read the image again.

    Glance's client is not used: to load it takes the processor a fifth of a
    second, and it asks for the schema of an image before the image.

    Every method raises ``GlanceUnavailable`` for what may pass, such as a
    broken connection, ``ImageNotFound``, and ``GlanceError`` for the rest.

    :param image: its id
    """

    def __init__(self, access: GlanceAccess, image: str) -> None:
        self._access = access
        self._image = image
        self._url = (
            f'{_VERSION.sub("", access.endpoint.rstrip("/"))}'
            f'/v2/images/{image}'
        )

    def image(self) -> Image:
        """The image as Glance describes it now."""
        with self._calling('read the image'):
            return Image.of(self._request('GET', self._url).json())

    def send(self, blocks: Iterable[bytes | memoryview], size: int) -> None:
        """Send all data of the image.

        :param blocks: each is sent before the next is taken
        :param size: in bytes
        :raises GlanceError: the blocks hold more than that, or less
        """
        with self._calling('upload'):
            self._request(
                'PUT',
                f'{self._url}/file',
                {
                    'Content-Type': 'application/octet-stream',
                    'x-openstack-image-size': str(size),
                },
                _chunks(self._counted(blocks, size)),
            )

    def _counted(
        self, blocks: Iterable[bytes | memoryview], size: int
    ) -> Iterator[bytes | memoryview]:
        """As many bytes as were announced.

        The upload is broken off otherwise: an end that comes in order could
        be taken for that of a complete image.
        """
        sent = 0
        for block in _made(blocks):
            sent += len(block)
            if sent > size:
                break
            yield block
        if sent != size:
            raise self._error(
                exception.GlanceError,
                'upload',
                f'{size} bytes were announced, '
                f'{"more" if sent > size else sent} came',
            )

    def _request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        data: Iterator[bytes | memoryview] | None = None,
    ) -> requests.Response:
        access = self._access
        with requests.Session() as session:
            bounded_http.bound(session, access.endpoint)
            response = session.request(
                method,
                url,
                headers={**self._identity(), **(headers or {})},
                data=data,  # type: ignore[arg-type]
                timeout=access.timeout,
                # The environment counts where nothing is configured.
                verify=False if access.insecure else access.cacert or None,
                cert=self._certificate(),
                # Data that were sent are not there to be sent again.
                allow_redirects=data is None,
            )
        # A redirection that was not followed has not taken the data.
        if response.status_code >= http.HTTPStatus.MULTIPLE_CHOICES:
            raise _Refused(response)
        return response

    def _identity(self) -> dict[str, str]:
        access = self._access
        headers = {
            'X-Auth-Token': access.token,
            'X-Service-Token': access.service_token,
            'X-OpenStack-Request-ID': access.global_request_id,
        }
        return {name: value for name, value in headers.items() if value}

    def _certificate(self) -> tuple[str, str] | str | None:
        """The certificate of this client; its key may be in the same file."""
        access = self._access
        if access.certificate and access.key:
            return access.certificate, access.key
        return access.certificate

    @contextlib.contextmanager
    def _calling(self, operation: str) -> Iterator[None]:
        access = self._access
        try:
            yield
        except _Refused as error:
            raise self._error(
                refusal(error.response.status_code),
                operation,
                _reason(error.response),
            ) from error
        except _NoBlock as error:
            assert error.__cause__ is not None  # noqa: S101 (for mypy)
            raise error.__cause__ from None
        except exception.SnapshotError:
            raise
        # requests lets through what it is made of, and an answer may be JSON
        # of another kind, or none.
        except Exception as error:
            raise self._error(
                exception.GlanceError
                if _is_for_ever(error)
                else exception.GlanceUnavailable,
                operation,
                reason.of(error, (access.token, access.service_token)),
            ) from error

    def _error(
        self,
        kind: type[exception.GlanceError],
        operation: str,
        reason: str,
    ) -> exception.GlanceError:
        return kind(
            endpoint=self._access.endpoint,
            operation=operation,
            image=self._image,
            reason=reason,
        )


def _made(
    blocks: Iterable[bytes | memoryview],
) -> Iterator[bytes | memoryview]:
    """Blocks whose errors do not pass for Glance's.

    A file that can't be read may be readable in the next attempt.

    :raises _NoBlock: one can't be made
    """
    try:
        yield from blocks
    except (exception.SnapshotError, OSError):
        raise
    except Exception as error:
        raise _NoBlock from error


def _is_for_ever(error: Exception) -> bool:
    """Whether it would be so again.

    There is no such URL, or no such header, or the answer is not taken.
    """
    return isinstance(
        error,
        bounded_http.Refused
        | requests.exceptions.InvalidURL
        | requests.exceptions.MissingSchema
        | requests.exceptions.InvalidSchema
        | requests.exceptions.InvalidHeader
        | UnicodeEncodeError,
    )


def _chunks(
    blocks: Iterable[bytes | memoryview],
) -> Iterator[bytes | memoryview]:
    for block in blocks:
        for start in range(0, len(block), CHUNK):
            yield block[start : start + CHUNK]


def _reason(response: requests.Response) -> str:
    """Why Glance refuses something: it says so in HTML, below a heading."""
    _, _, body = response.text.rpartition('</h1>')
    status = f'HTTP {response.status_code} {response.reason or ""}'.strip()
    said = reason.plain(body)
    return reason.shortened(f'{status}: {said}' if said else status)
