# SPDX-License-Identifier: Apache-2.0
"""A client of Glance, which translates the errors of Glance's own."""

from __future__ import annotations

import contextlib
import http
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import requests
from glanceclient import exc
from glanceclient.v2 import client

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import bounded_http
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.clients.image import Image
from nova_snapshot_driver.clients.image import refusal
from nova_snapshot_driver.common import reason
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.common import wait

#: How long the deletion of an image is retried, in seconds.
DELETE_TIMEOUT = 30

#: How long Glance may take to notice the end of an upload, in seconds: that it
#: was broken off, or that all has arrived.
UPLOAD_END_TIMEOUT = 10


class _LastAnswer:
    """Status and URL of the last answer; few of the client's errors have them.

    The hook holds no reference to the client: a circle would keep its
    connections open until the garbage collector came by.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.status: int | None = None
        self._url = ''

    def remember(
        self, response: requests.Response, *_: Any, **__: Any
    ) -> None:
        self.status = response.status_code
        self._url = response.url or ''

    def is_about(self, image: str | None) -> bool:
        """Whether the last request was for the image, not for its schema."""
        return image is not None and image in self._url


class Glance:
    """Glance's API, version 2.

    Every method, and the constructor, raises ``GlanceUnavailable`` for what
    may pass, such as a broken connection or an answer that is not Glance's,
    ``ImageNotFound``, and ``GlanceError`` for the rest: nothing of the client,
    nor of what it is made of, comes through.
    """

    def __init__(self, access: GlanceAccess) -> None:
        self.endpoint = access.endpoint
        self._secrets = (access.token, access.service_token)
        self._last = _LastAnswer()
        with self._calling('connect'):
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
            bounded_http.bound(session, access.endpoint)
            if access.service_token:
                session.auth = _ServiceToken(access.service_token)
            session.hooks['response'].append(self._last.remember)

    def create(self, **properties: Any) -> Image:
        with self._calling('create an image'):
            return Image.of(self._client.images.create(**properties))

    def get(self, image: str) -> Image:
        with self._calling('read the image', image):
            return Image.of(self._client.images.get(image))

    def update(self, image: str, **properties: Any) -> None:
        """Set properties; the other ones stay."""
        with self._calling('update the image', image):
            self._client.images.update(image, **properties)

    def remove_properties(self, image: str, names: Iterable[str]) -> None:
        """Remove those of the named properties that the image has."""
        with self._calling('update the image', image):
            self._client.images.update(image, remove_props=list(names))

    def locations(self, image: str) -> list[str]:
        """The locations of an image's data, as far as Glance shows them."""
        properties = self.get(image).properties
        shown = [each['url'] for each in properties.get('locations') or ()]
        direct = properties.get('direct_url')
        return shown + ([direct] if direct else [])

    def add_location(self, image: str, url: str) -> None:
        """Register a location for the data of an image, which becomes active.

        Glance's new API for locations is for services alone, and needs a
        service token with that role; the old one is open where
        ``show_multiple_locations`` is set.

        :raises LocationRefused: Glance refuses the location, now and later
        """
        images = self._client.images
        refusals = []
        for way in (images.add_image_location, images.add_location):
            try:
                with self._calling('add a location', image):
                    try:
                        way(image, url, {})
                    except exc.HTTPNotImplemented as error:
                        refusals.append(reason.of(error))
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

    def activate_empty(self, image: str) -> None:
        """Activate an image without data, which is all properties."""
        with self._calling('upload', image):
            self._client.images.upload(image, '')

    def delete(self, image: str) -> None:
        """Delete an image, with retries; a missing one is no error.

        The end of its upload is waited for: the data of an image that becomes
        active while it is being deleted would stay in Glance's store for ever,
        as ``ImagesController.delete`` has looked for locations too early.
        """
        with contextlib.suppress(exception.ImageNotFound):
            # The upload of a Glance that died in it never ends.
            wait.holds_within(
                lambda: self._takes_no_data(image), UPLOAD_END_TIMEOUT
            )
            retry.call(
                lambda: self._delete(image),
                f'delete the image {image}',
                exception.GlanceUnavailable,
                timeout=DELETE_TIMEOUT,
                longest_pause=5,
            )

    def _takes_no_data(self, image: str) -> bool:
        try:
            return self.get(image).status != 'saving'
        except exception.GlanceUnavailable:
            return False

    def _delete(self, image: str) -> None:
        with self._calling('delete the image', image):
            self._client.images.delete(image)

    @contextlib.contextmanager
    def _calling(
        self, operation: str, image: str | None = None
    ) -> Iterator[None]:
        self._last.forget()
        try:
            yield
        # The client lets exceptions of its libraries through (requests,
        # urllib3, ssl, warlock, jsonschema, json), and fails in many ways on
        # an answer that is not Glance's.
        except Exception as error:
            raise self._kind(error, image)(
                endpoint=self.endpoint,
                operation=operation,
                image=image,
                reason=reason.of(error, self._secrets),
            ) from error

    def _kind(
        self, error: Exception, image: str | None
    ) -> type[exception.GlanceError]:
        match error:
            case exc.ClientException():
                return self._refusal(image)
            case bounded_http.Refused():
                return exception.GlanceError
            case TypeError(__context__=RuntimeError()):
                # warlock: a value violates the schema of an image.
                return exception.GlanceError
            case (
                exc.BaseException(__context__=ValueError())
                | UnicodeEncodeError()
            ):
                # An invalid URL or header stays invalid: retries are no use.
                return exception.GlanceError
            case ValueError() if self._last.status is None:
                # A request that was never sent is no fault of Glance.
                return exception.GlanceError
            case exc.BaseException() | OSError():
                # The last answer may belong to an earlier request.
                return exception.GlanceUnavailable
            case _ if (self._last.status or 0) >= http.HTTPStatus.BAD_REQUEST:
                # The client could not read the answer, such as the page of a
                # proxy.
                return self._refusal(image)
            case _:
                return exception.GlanceUnavailable

    def _refusal(self, image: str | None) -> type[exception.GlanceError]:
        kind = refusal(self._last.status)
        if kind is exception.ImageNotFound and not self._last.is_about(image):
            # The address itself is wrong, and not the id of the image.
            return exception.GlanceError
        return kind


def is_complete(glance: Glance, image: str) -> bool:
    """Whether an image exists and is active."""
    try:
        return glance.get(image).status == 'active'
    except exception.ImageNotFound:
        return False


def discard_unfinished(glance: Glance, image: str) -> bool:
    """Delete an image whose upload has died; an active one stays.

    :returns: whether it is active
    """
    with contextlib.suppress(exception.ImageNotFound):
        if glance.get(image).status == 'active':
            return True
        glance.delete(image)
    return False


class _ServiceToken(requests.auth.AuthBase):
    """Adds the service token where the client's log does not show it.

    The client masks the user's token alone.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(
        self, request: requests.PreparedRequest
    ) -> requests.PreparedRequest:
        request.headers['X-Service-Token'] = self._token
        return request
