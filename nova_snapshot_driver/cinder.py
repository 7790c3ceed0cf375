# SPDX-License-Identifier: Apache-2.0
"""Cinder, and the snapshots of volumes in it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from cinderclient import exceptions as cinder_exceptions
from cinderclient.v3 import client
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import service_token
from keystoneauth1 import session
from keystoneauth1 import token_endpoint

from nova_snapshot_driver import exception

#: The seconds of silence after which a request has failed, by default.
DEFAULT_TIMEOUT = 60

#: What a snapshot says of itself while nothing is known of it yet.
CREATING = 'creating'

AVAILABLE = 'available'

DELETING = 'deleting'

#: What Nova says of a snapshot that it has taken for Cinder, of a volume in a
#: file: it is cut then, and Cinder has something left to do.
CUT_BY_NOVA = ('90%', '100%')


@dataclasses.dataclass(frozen=True)
class CinderAccess:
    """The way to Cinder.

    :ivar endpoint: with the project that is meant, as the catalog has it
    :ivar token: None for a Cinder without authentication
    :ivar service_token: of the service that asks on behalf of the token's
        owner; with it Cinder also takes a token that has expired meanwhile
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


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume as Cinder describes it.

    :ivar size: in GiB
    :ivar multiattach: several servers may write to it
    :ivar servers: the ids of those that it is attached to
    :ivar image_properties: of the image that it was made from
    """

    id: str
    status: str
    size: int
    description: str | None
    multiattach: bool
    servers: tuple[str, ...]
    image_properties: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class VolumeSnapshot:
    """A snapshot of a volume as Cinder describes it."""

    id: str
    volume: str
    status: str
    progress: str | None
    metadata: Mapping[str, str]

    @property
    def is_cut(self) -> bool:
        """What is written to the volume from now on is not in it."""
        return self.status == AVAILABLE or (
            self.status == CREATING and self.progress in CUT_BY_NOVA
        )

    @property
    def is_hopeless(self) -> bool:
        """It will never be available."""
        return self.status not in (CREATING, AVAILABLE)


class Cinder:
    """Cinder's API, version 3.0, as Nova itself uses it.

    Every method raises ``CinderUnavailable`` for what may pass, such as a
    broken connection, ``VolumeNotFound``, ``CinderOverLimit``, and
    ``CinderError`` for the rest. No request is made twice: whether the first
    one has made a snapshot can't be told from its answer that is lost.
    """

    def __init__(self, access: CinderAccess) -> None:
        self.endpoint = access.endpoint
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
        self._client = client.Client(
            session=session.Session(
                auth=auth,
                verify=False if access.insecure else access.cacert or True,
                cert=certificate,
                timeout=access.timeout,
            ),
            endpoint_override=access.endpoint,
            connect_retries=0,
            global_request_id=access.global_request_id,
        )

    def volume(self, volume: str) -> Volume:
        with self._calling('read the volume', volume):
            return _volume(self._client.volumes.get(volume))

    def room_for_snapshots(self) -> int | None:
        """How many more the quota of the project allows.

        :returns: None where there is no limit
        """
        with self._calling('read the limits'):
            limits = {
                limit.name: limit.value
                for limit in self._client.limits.get().absolute
            }
        most = int(limits.get('maxTotalSnapshots', -1))
        if most < 0:
            return None
        return most - int(limits.get('totalSnapshotsUsed', 0))

    def create_snapshot(
        self,
        volume: str,
        name: str,
        description: str | None,
        metadata: Mapping[str, str],
    ) -> VolumeSnapshot:
        """Have a volume snapshotted, also one that is in use."""
        with self._calling('create a snapshot of the volume', volume):
            return _snapshot(
                self._client.volume_snapshots.create(
                    volume, True, name, description, dict(metadata)
                )
            )

    def snapshot(self, snapshot: str) -> VolumeSnapshot:
        with self._calling('read the snapshot', snapshot):
            return _snapshot(self._client.volume_snapshots.get(snapshot))

    def snapshots_of(self, volume: str) -> list[VolumeSnapshot]:
        """All snapshots of a volume."""
        with self._calling('list the snapshots of the volume', volume):
            found = self._client.volume_snapshots.list(
                search_opts={'volume_id': volume, 'all_tenants': 1}
            )
            return [_snapshot(each) for each in found]

    def delete_snapshot(self, snapshot: str) -> None:
        """Have it deleted; that takes a while, and there need not be one."""
        with (
            contextlib.suppress(exception.VolumeNotFound),
            self._calling('delete the snapshot', snapshot),
        ):
            self._client.volume_snapshots.delete(snapshot)

    @contextlib.contextmanager
    def _calling(
        self, operation: str, volume: str | None = None
    ) -> Iterator[None]:
        try:
            yield
        except cinder_exceptions.ClientException as error:
            raise _translation(error.code)(
                endpoint=self.endpoint,
                operation=operation,
                volume=volume,
                reason=str(error).strip() or type(error).__name__,
            ) from error
        except (
            ksa_exceptions.ClientException,
            cinder_exceptions.ConnectionError,
            OSError,
            # An answer that is none of Cinder's: of a proxy, for one.
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            raise exception.CinderUnavailable(
                endpoint=self.endpoint,
                operation=operation,
                volume=volume,
                reason=str(error).strip() or type(error).__name__,
            ) from error


def _translation(status: int) -> type[exception.CinderError]:
    """
    :param status: of the answer
    """
    match status:
        case 404:
            return exception.VolumeNotFound
        case 413:
            return exception.CinderOverLimit
        case 408 | 429:
            return exception.CinderUnavailable
        case _ if status >= 500:
            return exception.CinderUnavailable
        case _:
            return exception.CinderError


def _volume(resource: Any) -> Volume:
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
    )


def _snapshot(resource: Any) -> VolumeSnapshot:
    return VolumeSnapshot(
        id=resource.id,
        volume=resource.volume_id,
        status=resource.status,
        # Cinder's policy may keep it to itself.
        progress=resource.progress,
        metadata=dict(getattr(resource, 'metadata', None) or {}),
    )
