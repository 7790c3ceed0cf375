# SPDX-License-Identifier: Apache-2.0
"""The settings that are chosen for a new cloud: its ports and passwords."""

import dataclasses
import json
import random
import secrets
import socket
from collections.abc import Collection
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from lab.cloud.files import write_private
from lab.errors import LabError

ADDRESS = '127.0.0.1'

#: The services with a port of their own.
LISTENERS = (
    'keystone',
    'glance',
    'placement',
    'neutron',
    'nova-api',
    'rabbitmq',
    'rabbitmq-peers',
    'epmd',
    'cinder-api',
    'ceph',
    'ceph-v1',
)

#: The accounts with a password of their own.
ACCOUNTS = (
    'admin',
    'demo',
    'other',
    'cinder',
    'glance',
    'nova',
    'placement',
    'rabbitmq',
    'volume-encryption',
)

# The ports below those that the kernel hands out for outgoing connections: no
# connection takes one by chance while its service is down.
_PORTS = range(20000, 32000)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The ports and passwords of a cloud."""

    ports: dict[str, int]
    passwords: dict[str, str] = dataclasses.field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return those in the file *path*.

        :raises LabError: there is none, it is not for this user, or it is
            from a time when a cloud had less in it
        """
        settings = cls._load(path)
        if settings._missing:
            raise LabError(
                f'the cloud in {path.parent} is from an older checkout: '
                'make cloud'
            )
        return settings

    @classmethod
    def _load(cls, path: Path) -> Self:
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            raise LabError('there is no cloud: make cloud') from None
        except PermissionError:
            raise LabError(
                f'the cloud in {path.parent} is that of root: use sudo'
            ) from None

    @classmethod
    def write(cls, path: Path) -> None:
        """Choose them and write them to the file *path*.

        What it has already stays, and what it lacks is chosen.

        :raises LabError: no port is free
        """
        settings = cls._load(path) if path.exists() else cls({}, {})
        if not settings._missing:
            return
        settings.ports.update(
            _free_ports(
                [name for name in LISTENERS if name not in settings.ports],
                settings.ports.values(),
            )
        )
        for name in ACCOUNTS:
            settings.passwords.setdefault(name, secrets.token_hex(16))
        write_private(path, json.dumps(dataclasses.asdict(settings)))

    @property
    def _missing(self) -> set[str]:
        return (set(LISTENERS) - set(self.ports)) | (
            set(ACCOUNTS) - set(self.passwords)
        )

    def url(self, service: str, path: str = '') -> str:
        """The URL of a service."""
        return f'http://{ADDRESS}:{self.ports[service]}{path}'


def _free_ports(
    names: Iterable[str], taken: Collection[int]
) -> dict[str, int]:
    candidates = random.sample(_PORTS, len(_PORTS))
    free = (
        port for port in candidates if port not in taken and _is_free(port)
    )
    try:
        return {name: next(free) for name in names}
    except StopIteration:
        raise LabError(
            f'no ports are free from {_PORTS.start} to {_PORTS.stop - 1}'
        ) from None


def _is_free(port: int) -> bool:
    try:
        socket.create_server((ADDRESS, port)).close()
    except OSError:
        return False
    return True
