# SPDX-License-Identifier: Apache-2.0
"""Cinder, and the snapshots of volumes in it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import ClassVar

from cinderclient import api_versions
from cinderclient import exceptions as cinder_exceptions
from cinderclient.v3 import client
from keystoneauth1 import service_token
from keystoneauth1 import session
from keystoneauth1 import token_endpoint

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import bounded_http
from nova_snapshot_driver.clients.access import CinderAccess
from nova_snapshot_driver.common import reason

#: The largest answer that is a list, in bytes: some ten thousand snapshots.
LARGEST_LIST = 16 << 20

#: The longest time for such a list, in timeouts of a request: Cinder sends it
#: in pages, and says whether another page follows.
LONGEST_LIST = 10

#: The status of a snapshot that Cinder has not created yet.
CREATING = 'creating'

AVAILABLE = 'available'

DELETING = 'deleting'

#: The progress that Nova reports once it has taken a snapshot for Cinder, of a
#: volume in a file: Cinder has yet to complete the snapshot.
TAKEN_BY_NOVA = ('90%', '100%')


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume as Cinder describes it.

    :ivar size: in GiB
    :ivar multiattach: several servers may write to it
    :ivar servers: the ids of the servers that it is attached to
    :ivar image_properties: of the image that it was made from
    :ivar updated_at: when its status was changed last, as Cinder writes it
    :ivar created_at: the same, of its creation
    """

    id: str
    status: str
    size: int
    description: str | None
    multiattach: bool
    servers: tuple[str, ...]
    image_properties: Mapping[str, str]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    updated_at: str | None = None
    created_at: str = ''


@dataclasses.dataclass(frozen=True)
class VolumeSnapshot:
    """A snapshot of a volume as Cinder describes it.

    :ivar size: of the volume then, in GiB
    :ivar created_at: when it was asked for, as Cinder writes it
    """

    id: str
    volume: str
    status: str
    progress: str | None
    metadata: Mapping[str, str]
    size: int = 0
    created_at: str = ''

    @property
    def is_point_in_time(self) -> bool:
        """Whether the snapshot leaves out all that is written from now on."""
        return self.status == AVAILABLE or (
            self.status == CREATING and self.progress in TAKEN_BY_NOVA
        )

    @property
    def is_hopeless(self) -> bool:
        """Whether the snapshot will never be available."""
        return self.status not in (CREATING, AVAILABLE)


class Cinder:
    """Cinder's API, version 3, as far as snapshots of volumes need it.

    Every method raises ``CinderUnavailable`` for what may pass, such as a
    broken connection, ``VolumeNotFound``, ``CinderOverLimit``, and
    ``CinderError`` for the rest: nothing of the client, nor of keystoneauth,
    comes through. No request is made twice: whether the first one has made a
    snapshot can't be told from its answer that is lost.

    :cvar MICROVERSION: that is asked for, and is enough for all methods
    """

    MICROVERSION: ClassVar[str] = '3.0'

    def __init__(self, access: CinderAccess) -> None:
        self.endpoint = access.endpoint
        self._secrets = (access.token, access.service_token)
        auth: Any = token_endpoint.Token(access.endpoint, access.token)
        if access.service_token:
            auth = service_token.ServiceTokenAuthWrapper(
                auth,
                token_endpoint.Token(access.endpoint, access.service_token),
            )
        certificate = (
            (access.certificate, access.key)
            if access.certificate and access.key
            else access.certificate
        )
        asking = session.Session(
            auth=auth,
            verify=False if access.insecure else access.cacert or True,
            cert=certificate,
            timeout=access.timeout,
        )
        bounded_http.bound(asking.session, access.endpoint)
        self._longest_list = LONGEST_LIST * access.timeout
        self._client = client.Client(
            session=asking,
            endpoint_override=access.endpoint,
            api_version=api_versions.APIVersion(self.MICROVERSION),
            connect_retries=0,
            global_request_id=access.global_request_id,
        )

    def volume(self, volume: str) -> Volume:
        with self.calling('read the volume', volume):
            return volume_of(self._client.volumes.get(volume))

    def room_for_snapshots(self) -> int | None:
        """How many more snapshots the quota of the project allows.

        :returns: None where there is no limit
        """
        with self.calling('read the limits'):
            return self._room('maxTotalSnapshots', 'totalSnapshotsUsed')

    def _room(self, most: str, used: str) -> int | None:
        """Read the room that a quota leaves; None where there is no quota.

        :param most: the name of the limit
        :param used: the name of what counts against it
        """
        limits = {
            limit.name: limit.value
            for limit in self._client.limits.get().absolute
        }
        limit = int(limits.get(most, -1))
        return None if limit < 0 else limit - int(limits.get(used, 0))

    def create_snapshot(
        self,
        volume: str,
        name: str,
        description: str | None,
        metadata: Mapping[str, str],
    ) -> VolumeSnapshot:
        """Create a snapshot of a volume, even of one that is in use."""
        with self.calling('create a snapshot of the volume', volume):
            return _snapshot(
                self._client.volume_snapshots.create(
                    volume, True, name, description, dict(metadata)
                )
            )

    def snapshot(self, snapshot: str) -> VolumeSnapshot:
        with self.calling('read the snapshot', snapshot):
            return _snapshot(self._client.volume_snapshots.get(snapshot))

    def snapshots_of(self, volume: str) -> list[VolumeSnapshot]:
        """All snapshots of a volume."""
        with (
            self.calling('list the snapshots of the volume', volume),
            self.listing(),
        ):
            found = self._client.volume_snapshots.list(
                search_opts={'volume_id': volume, 'all_tenants': 1}
            )
            return [_snapshot(each) for each in found]

    def listing(self) -> contextlib.AbstractContextManager[None]:
        """Bound a list, which comes in pages."""
        return bounded_http.together(self._longest_list, LARGEST_LIST)

    def delete_snapshot(self, snapshot: str) -> None:
        """Ask Cinder to delete a snapshot; the deletion takes a while."""
        with (
            contextlib.suppress(exception.VolumeNotFound),
            self.calling('delete the snapshot', snapshot),
        ):
            self._client.volume_snapshots.delete(snapshot)

    @contextlib.contextmanager
    def calling(
        self, operation: str, volume: str | None = None
    ) -> Iterator[None]:
        """Translate what the client raises inside.

        :param volume: that the request is about, or its snapshot
        """
        try:
            yield
        except cinder_exceptions.ClientException as error:
            raise _translation(getattr(error, 'code', None), volume)(
                endpoint=self.endpoint,
                operation=operation,
                volume=volume,
                reason=reason.of(error, self._secrets),
            ) from error
        except bounded_http.Refused as error:
            raise exception.CinderError(
                endpoint=self.endpoint,
                operation=operation,
                volume=volume,
                reason=reason.of(error, self._secrets),
            ) from error
        # keystoneauth and the client let exceptions of their libraries
        # through, and fail in many ways on an answer that is not Cinder's.
        # Whether Cinder has carried out the request is not known then.
        except Exception as error:
            raise exception.CinderUnavailable(
                endpoint=self.endpoint,
                operation=operation,
                volume=volume,
                reason=reason.of(error, self._secrets),
            ) from error


def _translation(
    status: object, volume: str | None
) -> type[exception.CinderError]:
    """
    :param status: of the answer; the client has text where there was none
    :param volume: that it was about
    """
    if not isinstance(status, int):
        return exception.CinderUnavailable
    match status:
        case 404 if volume is not None:
            return exception.VolumeNotFound
        case 413:
            return exception.CinderOverLimit
        case 408 | 429:
            return exception.CinderUnavailable
        case _ if status >= 500:
            return exception.CinderUnavailable
        case _:
            return exception.CinderError


def volume_of(resource: Any) -> Volume:
    return Volume(
        id=resource.id,
        status=resource.status,
        size=resource.size,
        description=resource.description,
        multiattach=bool(getattr(resource, 'multiattach', False)),
        servers=tuple(
            attachment['server_id'] for attachment in resource.attachments
        ),
        image_properties=dict(getattr(resource, 'volume_image_metadata', {})),
        metadata=dict(getattr(resource, 'metadata', None) or {}),
        updated_at=getattr(resource, 'updated_at', None),
        created_at=getattr(resource, 'created_at', None) or '',
    )


def _snapshot(resource: Any) -> VolumeSnapshot:
    return VolumeSnapshot(
        id=resource.id,
        volume=resource.volume_id,
        status=resource.status,
        # Cinder's policy may hide the progress.
        progress=resource.progress,
        metadata=dict(getattr(resource, 'metadata', None) or {}),
        size=getattr(resource, 'size', None) or 0,
        created_at=getattr(resource, 'created_at', None) or '',
    )
