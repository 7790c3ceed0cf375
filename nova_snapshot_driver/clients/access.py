# SPDX-License-Identifier: Apache-2.0
"""How a request reaches the services of a cloud."""

from __future__ import annotations

import dataclasses
from typing import Any
from typing import Protocol

#: The seconds of silence after which a request to Glance has failed.
GLANCE_TIMEOUT = 600

#: The seconds of silence after which a request to Cinder has failed.
CINDER_TIMEOUT = 60


#: The role to which Glance and Cinder show what any project has.
ADMIN = 'admin'


@dataclasses.dataclass(frozen=True)
class ServiceAccess:
    """Where a service is, and what a request to it needs.

    :ivar token: None for a service without authentication
    :ivar service_token: of the service that asks on behalf of the token's
        owner; with it a token is also taken that has expired meanwhile
    :ivar cacert: a file with the certificates to trust, else the system's
    :ivar certificate: a file with the certificate of this client
    :ivar key: a file with the key of that certificate
    :ivar timeout: the seconds of silence after which a request has failed,
        and those in which all of its answer has to come
    :ivar global_request_id: of the request that all of this is done for
    """

    endpoint: str
    token: str | None = dataclasses.field(default=None, repr=False)
    _: dataclasses.KW_ONLY
    service_token: str | None = dataclasses.field(default=None, repr=False)
    cacert: str | None = None
    certificate: str | None = None
    key: str | None = None
    insecure: bool = False
    timeout: float
    global_request_id: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlanceAccess(ServiceAccess):
    """Access to Glance, for this process and for that of the data plane."""

    timeout: float = GLANCE_TIMEOUT

    @property
    def files(self) -> tuple[str, ...]:
        """The files that a request reads."""
        named = (self.cacert, self.certificate, self.key)
        return tuple(path for path in named if path)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CinderAccess(ServiceAccess):
    """Access to Cinder.

    :ivar endpoint: with the project that is meant, as the catalog has it
    """

    timeout: float = CINDER_TIMEOUT


class Context(Protocol):
    """The context of a request."""

    def glance_access(self) -> GlanceAccess:
        """Access to Glance, with a token that is valid now."""

    def cinder_access(self) -> CinderAccess:
        """Access to Cinder, with a token that is valid now."""

    def sees(self, project: str | None) -> bool:
        """Whether all that a project has is shown to whoever asks.

        To anybody else Glance and Cinder say that there is no such thing.

        :param project: its id; None where nobody knows it
        :raises SnapshotError: Keystone does not say who asks
        """
