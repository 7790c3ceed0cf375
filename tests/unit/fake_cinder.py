# SPDX-License-Identifier: Apache-2.0
"""Cinder's API, version 3, as far as a snapshot uses it.

It has the state that a snapshot changes, and snapshots a volume in the request
for that, as most of its drivers do a moment later. What it refuses, it refuses
with the status and the words of Cinder 29.
"""

from __future__ import annotations

import ast
import collections
import itertools
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


#: The id of the key of every volume that is encrypted.
KEY = '9a1f0c5e-0b39-4d5a-8a55-7f0f1f2f3f4f'


def in_ceph(volume: str) -> dict[str, Any]:
    """How a host reaches a volume in Ceph, as Cinder 29 says it."""
    return {
        'driver_volume_type': 'rbd',
        'name': f'volumes/volume-{volume}',
        'hosts': ['10.0.0.1', '10.0.0.2'],
        'ports': ['6789', '6789'],
        'cluster_name': 'ceph',
        'auth_enabled': True,
        'auth_username': 'cinder',
        'secret_type': 'ceph',
        'secret_uuid': 'b0c6ef8f-4c1c-46d2-9aa4-7a2c8a0c5e30',
        'volume_id': volume,
        'discard': True,
        'encrypted': False,
        'access_mode': 'rw',
    }


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
    :ivar attachments: those that there are, by their ids
    :ivar connection: how a host reaches a volume; called with its id
    :ivar gigabytes: the quota for volumes and snapshots; -1 for none
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
                'updated_at': None,
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
        self.attachments: dict[str, dict[str, Any]] = {}
        self.connection: Callable[[str], dict[str, Any]] = in_ceph
        self.gigabytes = 1000
        self._changes = itertools.count()
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
            case 'GET', ['volumes', 'detail']:
                return 'volumes', lambda query, _: self._volumes(query)
            case 'POST', ['volumes']:
                return 'make', lambda _, body: self._make(**body)
            case 'DELETE', ['volumes', volume]:
                return 'remove', lambda *_: self._remove(volume)
            case 'GET', ['volumes', volume, 'encryption']:
                return 'key', lambda *_: (200, {'encryption_key_id': KEY})
            case 'POST', ['volumes', volume, 'metadata']:
                return 'claim', lambda _, body: self._describe(
                    self.volumes, volume, **body
                )
            case 'POST', ['volumes', volume, 'action']:
                return 'act', lambda _, body: self._act(volume, body)
            case 'POST', ['attachments']:
                return 'attach', lambda _, body: self._attach(**body)
            case 'GET', ['attachments']:
                return 'attachments', lambda query, _: self._attached(query)
            case 'POST', ['attachments', attachment, 'action']:
                return 'complete', lambda *_: self._complete(attachment)
            case 'DELETE', ['attachments', attachment]:
                return 'detach', lambda *_: self._detach(attachment)
            case 'POST', ['snapshots', snapshot, 'metadata']:
                return 'settle', lambda _, body: self._describe(
                    self.snapshots, snapshot, **body
                )
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
            'maxTotalVolumes': 100,
            'totalVolumesUsed': len(self.volumes),
            'maxTotalVolumeGigabytes': self.gigabytes,
            'totalGigabytesUsed': self._gigabytes_used(),
        }
        return 200, {'limits': {'rate': [], 'absolute': absolute}}

    def _gigabytes_used(self) -> int:
        everything = (*self.volumes.values(), *self.snapshots.values())
        return sum(each['size'] for each in everything)

    def _now(self) -> str:
        """Another time for each change."""
        return f'2026-11-20T09:00:00.{next(self._changes):06d}'

    # Volumes that no server has

    def add(self, **fields: Any) -> dict[str, Any]:
        """Have a volume."""
        volume = {
            'id': str(uuid.uuid4()),
            'name': 'a volume',
            'description': None,
            'status': 'available',
            'size': 2,
            'multiattach': False,
            'attachments': [],
            'metadata': {},
            'created_at': self._now(),
            'updated_at': None,
            **fields,
        }
        self.volumes[volume['id']] = volume
        return volume

    def touch(self, volume: str) -> None:
        """Have somebody attach a volume, and detach it."""
        self.volumes[volume]['updated_at'] = self._now()

    def _volumes(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        (text,) = query['metadata']
        wanted = ast.literal_eval(text)
        return 200, {
            'volumes': [
                volume
                for volume in self.volumes.values()
                if wanted.items() <= volume['metadata'].items()
            ]
        }

    def _make(self, volume: dict[str, Any]) -> tuple[int, Any]:
        if 0 <= self.gigabytes < self._gigabytes_used() + volume['size']:
            return _error(
                413,
                'VolumeSizeExceedsAvailableQuota: Requested volume exceeds',
            )
        made = self.add(
            **{
                name: volume[name]
                for name in ('name', 'size', 'description', 'metadata')
            },
            volume_type=volume['volume_type'],
            availability_zone=volume['availability_zone'],
        )
        return 202, {'volume': made}

    def _remove(self, volume: str) -> tuple[int, Any]:
        if volume not in self.volumes:
            return _error(404, f'Volume {volume} could not be found.')
        has_snapshots = any(
            each['volume_id'] == volume for each in self.snapshots.values()
        )
        status = self.volumes[volume]['status']
        if has_snapshots or status not in ('available', 'error'):
            return _error(400, 'Invalid volume: Volume status must be ...')
        del self.volumes[volume]
        return 202, None

    def _describe(
        self, things: dict[str, Any], thing: str, metadata: dict[str, str]
    ) -> tuple[int, Any]:
        if thing not in things:
            return _error(404, f'{thing} could not be found.')
        things[thing]['metadata'] |= metadata
        return 200, {'metadata': things[thing]['metadata']}

    def _act(self, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        if name not in self.volumes:
            return _error(404, f'Volume {name} could not be found.')
        volume = self.volumes[name]
        match body:
            case {'os-set_bootable': {'bootable': bootable}}:
                volume['bootable'] = str(bootable).lower()
                return 200, None
            case {'os-set_image_metadata': {'metadata': metadata}}:
                volume['volume_image_metadata'] = metadata
                return 200, {'metadata': metadata}
            case {'os-initialize_connection': _}:
                # In the words of the older API.
                return 200, {
                    'connection_info': {
                        'driver_volume_type': 'rbd',
                        'data': self.connection(name),
                    }
                }
            case {'os-terminate_connection': _}:
                return 202, None
            case {'os-extend': {'new_size': size}}:
                return self._extend(volume, size)
            case {'revert': {'snapshot_id': snapshot}}:
                return self._revert(volume, snapshot)
        raise AssertionError(f'nobody does {body}')

    def _extend(self, volume: dict[str, Any], size: int) -> tuple[int, Any]:
        if volume['status'] != 'available' or size <= volume['size']:
            return _error(400, 'Invalid volume: it cannot be extended')
        volume['size'] = size
        self.touch(volume['id'])
        return 202, None

    def _revert(
        self, volume: dict[str, Any], snapshot: str
    ) -> tuple[int, Any]:
        of_volume = [
            each
            for each in self.snapshots.values()
            if each['volume_id'] == volume['id']
        ]
        newest = max(of_volume, key=lambda each: str(each['created_at']))
        if (
            newest['id'] != snapshot
            or volume['status'] != 'available'
            or newest['size'] != volume['size']
        ):
            return _error(400, 'Invalid volume: it cannot be reverted')
        self.touch(volume['id'])
        return 202, None

    def _attach(self, attachment: dict[str, Any]) -> tuple[int, Any]:
        volume = attachment['volume_uuid']
        if volume not in self.volumes:
            return _error(404, f'Volume {volume} could not be found.')
        if self.volumes[volume]['status'] != 'available':
            return _error(400, 'Invalid volume: Volume is in-use')
        made = {
            'id': str(uuid.uuid4()),
            'status': 'attaching',
            'instance': None,
            'volume_id': volume,
        }
        self.attachments[made['id']] = made
        self.volumes[volume]['status'] = 'attaching'
        self.touch(volume)
        info = self.connection(volume)
        return 200, {'attachment': {**made, 'connection_info': info}}

    def _attached(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        (volume,) = query['volume_id']
        return 200, {
            'attachments': [
                each
                for each in self.attachments.values()
                if each['volume_id'] == volume
            ]
        }

    def _complete(self, attachment: str) -> tuple[int, Any]:
        if attachment not in self.attachments:
            return _error(404, f'Volume attachment {attachment} ...')
        volume = self.attachments[attachment]['volume_id']
        self.volumes[volume]['status'] = 'in-use'
        return 204, None

    def _detach(self, attachment: str) -> tuple[int, Any]:
        if attachment not in self.attachments:
            return _error(404, f'Volume attachment {attachment} ...')
        volume = self.attachments.pop(attachment)['volume_id']
        self.volumes[volume]['status'] = 'available'
        self.touch(volume)
        return 200, {'attachments': []}

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
        if self.volumes[volume]['status'] == 'attaching':
            return _error(400, 'Invalid volume: Volume is attaching')
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
            'created_at': self._now(),
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
