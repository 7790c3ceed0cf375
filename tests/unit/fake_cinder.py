# SPDX-License-Identifier: Apache-2.0
"""Cinder's API, version 3, as far as a snapshot uses it.

It has the state that a snapshot changes, and snapshots a volume in the request
for that, as most of its drivers do a moment later. What it refuses, it refuses
with the status and the words of Cinder 29.
"""

from __future__ import annotations

import collections
import json
import re
import uuid
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import requests
import requests_mock

PROJECT = '1b7c3d5e6f7a4b8c9d0e1f2a3b4c5d6e'

#: As the catalog has it.
ENDPOINT = f'http://cinder.example.com:8776/v3/{PROJECT}'

Trouble = Callable[[], tuple[int, Any]]


#: Characters, of which its schemas bear no more.
LONGEST_NAME = 255


class FakeCinder:
    """
    :ivar volumes: those that there are, by their ids
    :ivar snapshots: the same
    :ivar requests: what was asked so far, each a word and how often, such as
        ``create_2``
    :ivar troubles: what answers in place of a request, which is not done
    :ivar late_troubles: what answers in place of a request that is done
    :ivar polls: how often a snapshot is looked at until it is available
    :ivar progress: that of a snapshot that is being made
    :ivar errors: how many snapshots come to nothing, instead
    :ivar most: the quota of snapshots; -1 for none
    :ivar at_create: called with the id of each volume that is snapshotted
    :ivar before: called with each request
    :ivar bodies: of the requests for a snapshot
    :ivar headers: of all requests
    """

    def __init__(self, volumes: Iterable[str]) -> None:
        self.volumes: dict[str, dict[str, Any]] = {
            volume: {
                'id': volume,
                'name': f'disk {number}',
                'status': 'in-use',
                'size': number + 1,
                'description': f'of disk {number}',
                'multiattach': False,
                'attachments': [],
                'metadata': {},
                # Nova wants to see these too.
                'availability_zone': 'nova',
                'bootable': 'true',
                'created_at': '2026-11-20T09:00:00.000000',
                'snapshot_id': None,
                'volume_type': 'fast',
            }
            for number, volume in enumerate(volumes)
        }
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.troubles: dict[str, Trouble] = {}
        self.late_troubles: dict[str, Trouble] = {}
        self.polls = 2
        self.progress = '0%'
        self.errors = 0
        self.most = 100
        self.at_create: Callable[[str], object] = lambda _volume: None
        self.before: Callable[[str], object] = lambda _request: None
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self._calls: collections.Counter[str] = collections.Counter()
        self._polls: collections.Counter[str] = collections.Counter()

    def mocked(self, mocker: requests_mock.Mocker) -> None:
        """Answer the requests that are made through ``requests``."""

        def respond(request: Any, context: Any) -> str:
            self.headers.append(request.headers)
            status, document = self._answer(
                request.method,
                request.path.removeprefix(f'/v3/{PROJECT}'),
                request.qs,
                json.loads(request.body) if request.body else {},
            )
            context.status_code = status
            if document is None:
                return ''
            context.headers['Content-Type'] = 'application/json'
            return json.dumps(document)

        mocker.register_uri(
            requests_mock.ANY,
            # The prefix of all paths.
            _prefix(ENDPOINT),
            text=respond,
        )

    def _answer(
        self,
        method: str,
        path: str,
        query: dict[str, list[str]],
        body: dict[str, Any],
    ) -> tuple[int, Any]:
        name, do = self._meaning(method, path.strip('/').split('/'))
        self._calls[name] += 1
        request = f'{name}_{self._calls[name]}'
        self.requests.append(request)
        self.before(request)
        if request in self.troubles:
            return self.troubles[request]()
        answer = do(query, body)
        if request in self.late_troubles:
            return self.late_troubles[request]()
        return answer

    def _meaning(
        self, method: str, path: list[str]
    ) -> tuple[str, Callable[..., tuple[int, Any]]]:
        match method, path:
            case 'GET', ['volumes', volume]:
                return 'volume', lambda *_: self._volume(volume)
            case 'GET', ['limits']:
                return 'limits', lambda *_: self._limits()
            case 'POST', ['snapshots']:
                return 'create', lambda _, body: self._create(**body)
            case 'GET', ['snapshots', 'detail']:
                return 'list', lambda query, _: self._list(query)
            case 'GET', ['snapshots', snapshot]:
                return 'poll', lambda *_: self._poll(snapshot)
            case 'DELETE', ['snapshots', snapshot]:
                return 'delete', lambda *_: self._delete(snapshot)
        raise AssertionError(f'nobody asks {method} {path}')

    def _volume(self, volume: str) -> tuple[int, Any]:
        if volume not in self.volumes:
            return _error(404, f'Volume {volume} could not be found.')
        return 200, {'volume': self.volumes[volume]}

    def _limits(self) -> tuple[int, Any]:
        absolute = {
            'maxTotalSnapshots': self.most,
            'totalSnapshotsUsed': len(self.snapshots),
        }
        return 200, {'limits': {'rate': [], 'absolute': absolute}}

    def _create(self, snapshot: dict[str, Any]) -> tuple[int, Any]:
        self.bodies.append(snapshot)
        volume = snapshot['volume_id']
        if volume not in self.volumes:
            return _error(404, f'Volume {volume} could not be found.')
        if len(snapshot['name']) > LONGEST_NAME:
            return _error(
                400,
                f'Invalid input for field/attribute name. Value: '
                f"{snapshot['name']}. '...' is too long",
            )
        if not snapshot['force']:
            return _error(400, 'Invalid volume: Volume is in-use')
        if 0 <= self.most <= len(self.snapshots):
            return _error(
                413,
                'SnapshotLimitExceeded: Maximum number of snapshots allowed '
                f'({self.most}) exceeded',
            )
        self.at_create(volume)
        made = {
            'id': str(uuid.uuid4()),
            'volume_id': volume,
            'status': 'creating',
            'name': snapshot['name'],
            'description': snapshot['description'],
            'metadata': snapshot['metadata'],
            'created_at': '2026-11-20T09:00:00.000000',
            'size': self.volumes[volume]['size'],
            'os-extended-snapshot-attributes:progress': self.progress,
        }
        self.snapshots[made['id']] = made
        return 202, {'snapshot': made}

    def _list(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        (volume,) = query['volume_id']
        found = [
            snapshot
            for snapshot in list(self.snapshots.values())
            if snapshot['volume_id'] == volume
        ]
        answer = [dict(snapshot) for snapshot in found]
        for snapshot in found:
            self._go_on(snapshot)
        return 200, {'snapshots': answer}

    def _poll(self, snapshot: str) -> tuple[int, Any]:
        if snapshot not in self.snapshots:
            return _error(404, f'Snapshot {snapshot} could not be found.')
        self._go_on(self.snapshots[snapshot])
        if snapshot not in self.snapshots:
            return _error(404, f'Snapshot {snapshot} could not be found.')
        return 200, {'snapshot': self.snapshots[snapshot]}

    def _go_on(self, snapshot: dict[str, Any]) -> None:
        if snapshot['status'] == 'deleting':
            del self.snapshots[snapshot['id']]
            return
        self._polls[snapshot['id']] += 1
        if self._polls[snapshot['id']] < self.polls:
            return
        if snapshot['status'] == 'creating' and self.errors:
            self.errors -= 1
            snapshot['status'] = 'error'
        elif snapshot['status'] == 'creating':
            snapshot['status'] = 'available'

    def _delete(self, snapshot: str) -> tuple[int, Any]:
        if snapshot not in self.snapshots:
            return _error(404, f'Snapshot {snapshot} could not be found.')
        record = self.snapshots[snapshot]
        if record['status'] not in ('available', 'error'):
            return _error(
                400,
                'Invalid snapshot: Snapshot status must be available or '
                'error, and must not be migrating.',
            )
        record['status'] = 'deleting'
        return 202, None


def _prefix(endpoint: str) -> Any:
    """A pattern for all addresses with a prefix."""
    return re.compile(f'^{re.escape(endpoint)}/', re.IGNORECASE)


def unavailable() -> tuple[int, Any]:
    """Answer as a proxy in front of a dead Cinder."""
    return 503, None


def broken() -> tuple[int, Any]:
    """The connection breaks; the answer never arrives."""
    raise requests.exceptions.ConnectionError('Connection aborted.')


def silent() -> tuple[int, Any]:
    """Do not answer in time."""
    raise requests.exceptions.ReadTimeout('Read timed out.')


def internal_error() -> tuple[int, Any]:
    return _error(500, 'The server has either erred or is incapable.')


def over_limit() -> tuple[int, Any]:
    return _error(413, 'SnapshotLimitExceeded')


def _error(status: int, message: str) -> tuple[int, Any]:
    return status, {'error': {'code': status, 'message': message}}
