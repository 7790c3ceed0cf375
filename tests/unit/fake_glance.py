# SPDX-License-Identifier: Apache-2.0
"""Glance's API, version 2, as far as a snapshot uses it.

It answers requests, and does not care how they come: through requests-mock,
or through a server that has a socket.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import requests
import requests_mock
from requests.structures import CaseInsensitiveDict

from tests.unit import documents

ENDPOINT = 'http://glance.example.com:9292'

#: The fields that Glance's schema names; all others are properties.
_FIELDS = (
    *('id', 'name', 'status', 'visibility', 'protected', 'checksum'),
    *('os_hash_algo', 'os_hash_value', 'owner', 'size', 'virtual_size'),
    *('container_format', 'disk_format', 'created_at', 'updated_at', 'tags'),
    *('direct_url', 'min_ram', 'min_disk', 'self', 'file', 'schema'),
    *('locations', 'os_hidden'),
)

_SCHEMA = {
    'name': 'image',
    'properties': {name: {} for name in _FIELDS},
    'additionalProperties': {'type': 'string'},
}


_VERSIONS = [
    {'id': 'v2.16', 'status': 'SUPPORTED'},
    {'id': 'v2.17', 'status': 'CURRENT'},
]


@dataclasses.dataclass(frozen=True)
class Request:
    """A request, as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    document: Any = None


class Broken(Exception):
    """The connection breaks; the answer never arrives."""


class FakeGlance:
    """A Glance without authentication.

    :ivar images: the records, by id
    :ivar content: the data of those that are active
    :ivar located: where that of others is
    :ivar requests: all that came
    :ivar troubles: what happens instead of a request, by its number from 1
        on
    :ivar late_troubles: what becomes of the answer to a request that has had
        its effect
    :ivar algorithm: what the content is hashed with
    :ivar takes_locations: from services, as newer ones do: the answer comes
        before it has looked
    :ivar shows_locations: takes them from anybody
    :ivar sizes: what it finds at a location, in bytes, or None; called with
        the location
    :ivar protected: the names of properties that nobody may write
    :ivar most_properties: that an image may have, None for any number
    :ivar at_delete: called with the location of an image that is deleted
    :ivar looks: how often an image is looked at before Glance has looked at
        its location
    """

    def __init__(self) -> None:
        self.images: dict[str, dict[str, Any]] = {}
        self.content: dict[str, bytes] = {}
        self.located: dict[str, str] = {}
        self.requests: list[Request] = []
        self.troubles: dict[int, Callable[[], Answer]] = {}
        self.late_troubles: dict[int, Callable[[], Answer]] = {}
        self.algorithm = 'sha512'
        self.takes_locations = True
        self.shows_locations = False
        self.sizes: Callable[[str], int | None] = lambda _url: 2 << 30
        self.looks = 0
        self.protected: set[str] = set()
        self.most_properties: int | None = None
        self.at_delete: Callable[[str], object] = lambda _url: None

    def add(self, **fields: Any) -> str:
        """Have an image that is queued; returns its id."""
        image = str(uuid.uuid4())
        self.images[image] = {
            'id': image,
            'name': None,
            'status': 'queued',
            'size': None,
            'checksum': None,
            'os_hash_algo': None,
            'os_hash_value': None,
            'min_disk': 0,
            'min_ram': 0,
            'os_hidden': False,
            'protected': False,
            'visibility': 'private',
            'tags': [],
            'owner': documents.PROJECT,
            'file': f'/v2/images/{image}/file',
            'schema': '/v2/schemas/image',
            'created_at': '2026-11-20T09:00:00Z',
            'updated_at': '2026-11-20T09:00:00Z',
            **fields,
        }
        return image

    def mocked(self, mocker: requests_mock.Mocker) -> None:
        """Answer the requests that are made through ``requests``."""

        def respond(request: Any, context: Any) -> str:
            body = request.body or b''
            if not isinstance(body, str | bytes):
                # A block is valid until the next one is taken.
                body = b''.join(bytes(block) for block in body)
            if isinstance(body, str):
                body = body.encode()
            try:
                answer = self.answer(
                    Request(
                        request.method,
                        request.path,
                        CaseInsensitiveDict(
                            (name, _text(value))
                            for name, value in request.headers.items()
                        ),
                        body,
                    )
                )
            except Broken as error:
                raise requests.exceptions.ConnectionError(
                    'Connection aborted.'
                ) from error
            context.status_code = answer.status
            if answer.document is None:
                return ''
            context.headers['Content-Type'] = 'application/json'
            return json.dumps(answer.document)

        mocker.register_uri(
            requests_mock.ANY,
            requests_mock.ANY,
            text=respond,
        )

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        number = len(self.requests)
        if number in self.troubles:
            return self.troubles[number]()
        answer = self._answer(request)
        if number in self.late_troubles:
            return self.late_troubles[number]()
        return answer

    def _answer(self, request: Request) -> Answer:
        match request.method, request.path.strip('/').split('/'):
            case 'GET', ['v2', 'schemas', 'image']:
                return Answer(200, _SCHEMA)
            case 'GET', ['versions']:
                return Answer(200, {'versions': _VERSIONS})
            case 'POST', ['v2', 'images']:
                return self._create(json.loads(request.body))
            case _, ['v2', 'images', image, *_] if image not in self.images:
                return Answer(404, _error(f'No image found with ID {image}'))
            case 'GET', ['v2', 'images', image]:
                if image in self.located:
                    self._look(self.images[image], self.located[image])
                return Answer(200, self.images[image])
            case 'PATCH', ['v2', 'images', image]:
                return self._patch(image, json.loads(request.body))
            case 'POST', ['v2', 'images', image, 'locations']:
                if not self.takes_locations:
                    return Answer(403, _error('http store must be enabled'))
                return self._locate(image, json.loads(request.body)['url'])
            case 'PUT', ['v2', 'images', image, 'file']:
                return self._put(image, request)
            case 'DELETE', ['v2', 'images', image]:
                del self.images[image]
                self.content.pop(image, None)
                if image in self.located:
                    self.at_delete(self.located.pop(image))
                return Answer(204)
        return Answer(404, _error(f'{request.method} {request.path}'))

    def _locate(self, image: str, url: str) -> Answer:
        record = self.images[image]
        if record['status'] != 'queued':
            return Answer(409, _error(f'Image status is {record["status"]}'))
        if not (record.get('disk_format') and record.get('container_format')):
            return Answer(400, _error('Properties must be set'))
        self.located[image] = url
        self._look(record, url)
        return Answer(202, record)

    def _look(self, record: dict[str, Any], url: str) -> None:
        if self.looks:
            self.looks -= 1
            return
        size = self.sizes(url)
        if size is not None:
            record.update(status='active', size=size)

    def _patch(self, image: str, changes: list[dict[str, Any]]) -> Answer:
        names = {change['path'].strip('/') for change in changes}
        if refusal := self._refusal(names, {*self.images[image], *names}):
            return refusal
        for change in changes:
            name = change['path'].strip('/')
            if name == 'locations/-':
                if not self.shows_locations:
                    return Answer(403, _error('locations are invisible'))
                return self._locate(image, change['value']['url'])
            if change['op'] == 'remove':
                del self.images[image][name]
            else:
                self.images[image][name] = change['value']
        return Answer(200, self.images[image])

    def _create(self, fields: dict[str, Any]) -> Answer:
        if refusal := self._refusal(set(fields), set(fields)):
            return refusal
        return Answer(201, self.images[self.add(**fields)])

    def _refusal(
        self, written: set[str], all_of_it: set[str]
    ) -> Answer | None:
        """As property protections and ``image_property_quota`` have it."""
        for name in sorted(written & self.protected):
            return Answer(403, _error(f"Property '{name}' is protected"))
        count = len(all_of_it - set(_FIELDS))
        if self.most_properties is not None and count > self.most_properties:
            return Answer(
                413,
                _error(
                    'The limit has been exceeded on the number of allowed '
                    f'image properties. Attempted: {count}, Maximum: '
                    f'{self.most_properties}'
                ),
            )
        return None

    def _put(self, image: str, request: Request) -> Answer:
        record = self.images[image]
        if record['status'] != 'queued':
            return Answer(409, _error(f'Image status is {record["status"]}'))
        if not (record.get('disk_format') and record.get('container_format')):
            return Answer(400, _error('Properties must be set'))
        said = request.headers.get('x-openstack-image-size')
        if said is not None and int(said) != len(request.body):
            return Answer(400, _error('Provided image size is not right'))
        self.content[image] = request.body
        record.update(
            status='active',
            size=len(request.body),
            os_hash_algo=self.algorithm,
            os_hash_value=hashlib.new(
                self.algorithm, request.body
            ).hexdigest(),
        )
        return Answer(204)


def unavailable() -> Answer:
    """Answer as a proxy in front of a dead Glance."""
    return Answer(503, _error('Service unavailable'))


def broken() -> Answer:
    raise Broken


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _error(message: str) -> dict[str, Any]:
    return {'error': {'message': message}}
