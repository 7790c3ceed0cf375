# SPDX-License-Identifier: Apache-2.0
"""Glance, and the images in it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import requests
import tenacity
from glanceclient import exc
from glanceclient.v2 import client

from nova_snapshot_driver import exception

#: The seconds of silence after which a request has failed, by default.
DEFAULT_TIMEOUT = 600

#: How long an image is tried to be deleted, in seconds.
DELETE_TIMEOUT = 30

#: The bytes of an upload that are a chunk of the transfer encoding, as many as
#: Glance reads at a time. gunicorn reads ahead to the end of a chunk, and to a
#: MiB where there is none, and copies all that it has ahead each time.
CHUNK = 1 << 16


@dataclasses.dataclass(frozen=True)
class GlanceAccess:
    """The way to Glance.

    :ivar token: None for a Glance without authentication
    :ivar service_token: of the service that asks on behalf of the token's
        owner; with it Glance also takes a token that has expired meanwhile
    :ivar cacert: a file with the certificates to trust, else the system's
    :ivar certificate: a file with the certificate of this client
    :ivar key: a file with the key of that certificate
    :ivar timeout: the seconds of silence after which a request has failed
    :ivar global_request_id: of the request that all of this is done for
    """

    endpoint: str
    token: str | None = dataclasses.field(default=None, repr=False)
    service_token: str | None = dataclasses.field(default=None, repr=False)
    cacert: str | None = None
    certificate: str | None = None
    key: str | None = None
    insecure: bool = False
    timeout: float = DEFAULT_TIMEOUT
    global_request_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Image:
    """An image as Glance describes it."""

    id: str
    name: str | None
    status: str
    size: int | None
    os_hash_algo: str | None
    os_hash_value: str | None
    properties: dict[str, Any]


class _LastStatus:
    """That of the last answer; the client's errors say that of a few alone.

    It knows nothing of the client: with a circle its connections would stay
    open until the garbage collector came by.
    """

    def __init__(self) -> None:
        self.status: int | None = None

    def remember(
        self, response: requests.Response, *_: Any, **__: Any
    ) -> None:
        self.status = response.status_code


class Glance:
    """Glance's API, version 2.

    Every method raises ``GlanceUnavailable`` for what may pass, such as a
    broken connection, ``ImageNotFound``, and ``GlanceError`` for the rest.
    """

    def __init__(self, access: GlanceAccess) -> None:
        self.endpoint = access.endpoint
        self._client = client.Client(
            access.endpoint,
            token=access.token,
            cacert=access.cacert,
            cert_file=access.certificate,
            key_file=access.key,
            insecure=access.insecure,
            timeout=access.timeout,
            global_request_id=access.global_request_id,
        )
        session = self._client.http_client.session
        if access.service_token:
            session.auth = _ServiceToken(access.service_token)
        self._last = _LastStatus()
        session.hooks['response'].append(self._last.remember)

    def create(self, **properties: Any) -> Image:
        with self._calling('create an image'):
            return _image(self._client.images.create(**properties))

    def get(self, image: str) -> Image:
        with self._calling('read the image', image):
            return _image(self._client.images.get(image))

    def update(self, image: str, **properties: Any) -> None:
        """Set properties; those that are not named stay."""
        with self._calling('update the image', image):
            self._client.images.update(image, **properties)

    def remove_properties(self, image: str, names: Iterable[str]) -> None:
        """Remove those that it has of these."""
        with self._calling('update the image', image):
            self._client.images.update(image, remove_props=list(names))

    def locations(self, image: str) -> list[str]:
        """Where the data of an image is, as far as Glance says it."""
        properties = self.get(image).properties
        shown = [each['url'] for each in properties.get('locations') or ()]
        direct = properties.get('direct_url')
        return shown + ([direct] if direct else [])

    def add_location(self, image: str, url: str) -> None:
        """Tell where the data of an image is, which is active then, or soon.

        The first way is for services alone, and needs a service token with
        that role; the second is open where ``show_multiple_locations`` is set.

        :raises LocationRefused: it is not, and will not be
        """
        images = self._client.images
        refusals = []
        for way in (images.add_image_location, images.add_location):
            try:
                with self._calling('add a location', image):
                    try:
                        way(image, url, {})
                    except exc.HTTPNotImplemented as error:
                        refusals.append(str(error))
                        continue
                return
            except (exception.GlanceUnavailable, exception.ImageNotFound):
                raise
            except exception.GlanceError as error:
                refusals.append(error.fields['reason'])
        raise exception.LocationRefused(
            endpoint=self.endpoint,
            operation='add a location',
            image=image,
            reason=' '.join(dict.fromkeys(refusals)),
        )

    def upload(
        self, image: str, blocks: Iterable[bytes | memoryview], size: int
    ) -> None:
        """Send the data of an image.

        :param blocks: all of it; each is sent before the next is taken
        :param size: in bytes
        :raises GlanceError: the blocks are more than that, or fewer
        """
        http = self._client.http_client
        with self._calling('upload', image):
            # The client's own method sends larger chunks.
            http.put(
                f'/v2/images/{image}/file',
                headers={
                    'Content-Type': 'application/octet-stream',
                    'x-openstack-image-size': str(size),
                },
                auth=_Body(
                    self._counted(image, blocks, size), http.session.auth
                ),
            )

    def _counted(
        self, image: str, blocks: Iterable[bytes | memoryview], size: int
    ) -> Iterator[bytes | memoryview]:
        """As many bytes as were announced.

        For the rest Glance would wait, and take what is too much for the
        next request.
        """
        sent = 0
        for block in blocks:
            sent += len(block)
            if sent > size:
                break
            yield block
        if sent != size:
            raise exception.GlanceError(
                endpoint=self.endpoint,
                operation='upload',
                image=image,
                reason=f'{size} bytes were announced, '
                f'{"more" if sent > size else sent} came',
            )

    def activate_empty(self, image: str) -> None:
        """Have an image without any data active; its properties are all."""
        with self._calling('upload', image):
            self._client.images.upload(image, '')

    def delete(self, image: str) -> None:
        """See that an image does not exist, for a while if need be."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(
                exception.GlanceUnavailable
            ),
            stop=tenacity.stop_after_delay(DELETE_TIMEOUT),
            wait=tenacity.wait_exponential(max=5),
            reraise=True,
        )
        with contextlib.suppress(exception.ImageNotFound):
            attempts(self._delete, image)

    def _delete(self, image: str) -> None:
        with self._calling('delete the image', image):
            self._client.images.delete(image)

    @contextlib.contextmanager
    def _calling(
        self, operation: str, image: str | None = None
    ) -> Iterator[None]:
        self._last.status = None
        try:
            yield
        except (exc.ClientException, exc.BaseException, OSError) as error:
            raise _translation(self._last.status)(
                endpoint=self.endpoint,
                operation=operation,
                image=image,
                reason=str(error).strip() or type(error).__name__,
            ) from error


def is_complete(glance: Glance, image: str) -> bool:
    """Whether an image is there, and can be used."""
    try:
        return glance.get(image).status == 'active'
    except exception.ImageNotFound:
        return False


def discard_unfinished(glance: Glance, image: str) -> bool:
    """Delete an image whose upload has died; one that is active stays.

    :returns: whether it is active
    """
    with contextlib.suppress(exception.ImageNotFound):
        if glance.get(image).status == 'active':
            return True
        glance.delete(image)
    return False


class _ServiceToken(requests.auth.AuthBase):
    """Adds the token where the client, which logs its headers, can't see it.

    The client masks the user's token alone.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(
        self, request: requests.PreparedRequest
    ) -> requests.PreparedRequest:
        request.headers['X-Service-Token'] = self._token
        return request


class _Body(requests.auth.AuthBase):
    """Becomes the body of a request that the client takes to have none.

    The client would hand on a body of its own kind alone.

    :param auth: that of the session, in whose place it is asked
    """

    def __init__(
        self,
        blocks: Iterator[bytes | memoryview],
        auth: requests.auth.AuthBase | None,
    ) -> None:
        self._blocks = blocks
        self._auth = auth

    def __call__(
        self, request: requests.PreparedRequest
    ) -> requests.PreparedRequest:
        request.body = self  # type: ignore[assignment]
        # Where there was no body, there was a length.
        del request.headers['Content-Length']
        request.headers['Transfer-Encoding'] = 'chunked'
        return self._auth(request) if self._auth else request

    def __iter__(self) -> Iterator[bytes | memoryview]:
        for block in self._blocks:
            for start in range(0, len(block), CHUNK):
                yield block[start : start + CHUNK]


def _translation(status: int | None) -> type[exception.GlanceError]:
    """
    :param status: of the answer; None if there was none
    """
    match status:
        # 410 is for an upload whose image was deleted meanwhile.
        case 404 | 410:
            return exception.ImageNotFound
        case None | 408 | 409 | 429:
            return exception.GlanceUnavailable
        case _ if status >= 500:
            return exception.GlanceUnavailable
        case _:
            return exception.GlanceError


def _image(record: dict[str, Any]) -> Image:
    own = {field.name for field in dataclasses.fields(Image)} - {'properties'}
    known: dict[str, Any] = {name: record.get(name) for name in own}
    others = {name: record[name] for name in record if name not in own}
    return Image(**known, properties=others)
