# SPDX-License-Identifier: Apache-2.0
"""Images, and the way to them; without the client, which is slow to load."""

from __future__ import annotations

import dataclasses
from typing import Any

from nova_snapshot_driver import exception

#: The seconds of silence after which a request has failed, by default.
DEFAULT_TIMEOUT = 600


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

    @classmethod
    def of(cls, record: dict[str, Any]) -> Image:
        """What Glance says of one, by the names of its API."""
        own = {field.name for field in dataclasses.fields(cls)}
        own.discard('properties')
        known: dict[str, Any] = {name: record.get(name) for name in own}
        others = {name: record[name] for name in record if name not in own}
        return cls(**known, properties=others)


def refusal(status: int | None) -> type[exception.GlanceError]:
    """What Glance means by it.

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
