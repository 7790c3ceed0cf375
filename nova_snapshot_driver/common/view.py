# SPDX-License-Identifier: Apache-2.0
"""The content of a disk at one instant, in a form that can be read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any
from typing import Self

from nova_snapshot_driver.common.ownership import Inode


@dataclasses.dataclass(frozen=True)
class Layer:
    """An image of a backing chain.

    :ivar format: as QEMU calls it
    :ivar passphrase: in base64, of an image that is encrypted with LUKS and
        read without libvirt
    :ivar backing: the image beneath, where the domain names it
    :ivar is_last: the domain says that no image is beneath. Where it does not
        say, the header of the image does
    """

    path: str
    format: str
    passphrase: str | None = dataclasses.field(default=None, repr=False)
    backing: Layer | None = None
    is_last: bool = False

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Layer:
        """A layer from the dictionary of ``dataclasses.asdict``."""
        backing = fields.get('backing')
        return cls(
            **{
                **fields,
                'backing': None if backing is None else cls.from_dict(backing),
            }
        )


@dataclasses.dataclass(frozen=True)
class Server:
    """The process that is to serve an export.

    :ivar uid: of its user; None where libvirt does not say it
    :ivar option: one of its command line, and the value of that, which no
        other process of this host has
    """

    uid: int | None
    option: tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Export:
    """An NBD export, whose content is that of the disk as the guest sees it.

    :ivar socket: the path of the Unix socket of its server
    :ivar name: of the export
    :ivar size: that libvirt says the disk has, in bytes
    :ivar inode: of the socket
    :ivar bitmap: the dirty bitmap that is exported with it, by the name that
        the export has for it; None where there is none
    """

    socket: str
    name: str
    size: int
    inode: Inode
    server: Server
    bitmap: str | None = None

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        server = fields['server']
        return cls(
            socket=fields['socket'],
            name=fields['name'],
            size=fields['size'],
            inode=Inode(**fields['inode']),
            server=Server(server['uid'], tuple(server['option'])),
            bitmap=fields['bitmap'],
        )


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume of Cinder in Ceph, or a snapshot of one.

    :ivar size: of the disk in the volume, in bytes; the volume itself is as
        large as whole GiB
    :ivar monitors: the addresses of the cluster, as host:port
    :ivar user: of Ceph
    :ivar key: of the user, in base64; None: Ceph itself looks for a keyring
    :ivar conf: the file of Ceph's configuration; empty for the usual one
    :ivar passphrase: in base64, of a volume that is encrypted with LUKS
    :ivar snapshot: its name in Ceph; None for the volume as it is now
    """

    pool: str
    name: str
    size: int
    monitors: tuple[str, ...]
    user: str
    key: str | None = dataclasses.field(default=None, repr=False)
    conf: str = ''
    passphrase: str | None = dataclasses.field(default=None, repr=False)
    snapshot: str | None = None

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """A volume from the dictionary of ``dataclasses.asdict``."""
        return cls(**{**fields, 'monitors': tuple(fields['monitors'])})


#: The views that QEMU's tools open by themselves.
Opened = Layer | Volume

#: A Layer or a Volume is a stable view only while no process writes to it.
View = Export | Layer | Volume

#: The views of several disks at one instant, by the names of the disks in
#: their domain, as ``vda``.
Views = Mapping[str, View]


@dataclasses.dataclass(frozen=True)
class RbdImage:
    """An image in Ceph.

    :ivar user: who may read and write it; None where the domain does not say
    """

    pool: str
    name: str
    user: str | None = None

    def __str__(self) -> str:
        return f'{self.pool}/{self.name}'

    def filename(self, user: str | None, conf: str) -> str:
        """The filename of the image for QEMU's tools.

        The configuration names the keyring, as for Nova's own driver.

        :param user: None for that of the domain
        :param conf: the file of the configuration; empty for the usual one
        """
        user = user or self.user
        return ':'.join(
            [
                f'rbd:{_quoted(self.pool)}/{_quoted(self.name)}',
                *([f'id={_quoted(user)}'] if user else []),
                *([f'conf={_quoted(conf)}'] if conf else []),
            ]
        )


def _quoted(text: str) -> str:
    return re.sub(r'([:@=\\])', r'\\\1', text)
