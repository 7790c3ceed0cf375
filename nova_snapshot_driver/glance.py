# SPDX-License-Identifier: Apache-2.0
"""Glance, as its client reaches it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import requests
import tenacity
from glanceclient import exc
from glanceclient.v2 import client

from nova_snapshot_driver import exception
from nova_snapshot_driver.image import GlanceAccess
from nova_snapshot_driver.image import Image
from nova_snapshot_driver.image import refusal

#: How long an image is tried to be deleted, in seconds.
DELETE_TIMEOUT = 30

#: How long Glance may take to see the end of an upload, in seconds: that it
#: was broken off, or that all has arrived.
UPLOAD_END_TIMEOUT = 10

#: How often it is looked for that, in seconds.
POLL_INTERVAL = 0.5


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
            return Image.of(self._client.images.create(**properties))

    def get(self, image: str) -> Image:
        with self._calling('read the image', image):
            return Image.of(self._client.images.get(image))

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

    def activate_empty(self, image: str) -> None:
        """Have an image without any data active; its properties are all."""
        with self._calling('upload', image):
            self._client.images.upload(image, '')

    def delete(self, image: str) -> None:
        """See that an image does not exist, for a while if need be.

        Of one that becomes active while it is being deleted, the data would
        stay in Glance's store, and be nobody's: ``ImagesController.delete``
        has looked for a location before there was one. So the end of its
        upload is waited for.
        """
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(
                exception.GlanceUnavailable
            ),
            stop=tenacity.stop_after_delay(DELETE_TIMEOUT),
            wait=tenacity.wait_exponential(max=5),
            reraise=True,
        )
        with contextlib.suppress(exception.ImageNotFound):
            self._wait_for_end_of_upload(image)
            attempts(self._delete, image)

    def _wait_for_end_of_upload(self, image: str) -> None:
        looks = tenacity.Retrying(
            retry=tenacity.retry_if_result(
                lambda found: found.status == 'saving'
            )
            | tenacity.retry_if_exception_type(exception.GlanceUnavailable),
            stop=tenacity.stop_after_delay(UPLOAD_END_TIMEOUT),
            wait=tenacity.wait_fixed(POLL_INTERVAL),
            # That of a Glance that died in it never ends.
            retry_error_callback=lambda _: None,
        )
        looks(self.get, image)

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
            # The last one that was answered may be another request.
            is_answer = isinstance(error, exc.ClientException)
            raise refusal(self._last.status if is_answer else None)(
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
