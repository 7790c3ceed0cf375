# SPDX-License-Identifier: Apache-2.0
"""The instance that is to be snapshotted, as a door describes it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any


class QuiescePolicy(enum.Enum):
    """Whether the file systems of a running guest are frozen.

    AUTO freezes where that is possible and records where it was not; REQUIRE
    fails the snapshot instead; NEVER leaves the guest alone.
    """

    AUTO = 'auto'
    REQUIRE = 'require'
    NEVER = 'never'


class Target(enum.Enum):
    """Where the snapshot of a disk goes that is no volume.

    IMAGE is Glance; VOLUME is a volume in Cinder, whose snapshot an image
    maps; AUTO is VOLUME where that can be done.
    """

    IMAGE = 'image'
    VOLUME = 'volume'
    AUTO = 'auto'


@dataclasses.dataclass(frozen=True)
class AttachedVolume:
    """A volume of an instance.

    :ivar id: in Cinder
    :ivar mapping: the block device mapping of a server that is made from the
        image, but for the id of the snapshot
    """

    id: str
    mapping: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class BlockDevices:
    """The block devices of an instance whose root disk is a volume.

    :ivar volumes: in the order of the image's mapping
    :ivar others: the mappings of what is no volume; they come first
    """

    volumes: tuple[AttachedVolume, ...]
    others: tuple[Mapping[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class Instance:
    """An instance, or a domain that stands on its own.

    :ivar domain: name or UUID of its libvirt domain
    :ivar quiesce: what this instance asks for; None leaves it to the
        option ``[snapshot] quiesce``
    :ivar guest_agent: whether an agent is to be expected; None leaves it to
        the channel in the domain
    :ivar container_format: of the image that the instance was made from
    :ivar block_devices: of an instance whose root disk is a volume; None of
        any other
    :ivar target: where a snapshot of any other one goes
    :ivar name: that its owner has given it
    :ivar zone: the only availability zone in which its volumes may be; None
        for any
    """

    domain: str
    project_id: str | None = None
    os_type: str | None = None
    kernel_id: str | None = None
    ramdisk_id: str | None = None
    container_format: str = 'bare'
    quiesce: QuiescePolicy | None = None
    guest_agent: bool | None = None
    block_devices: BlockDevices | None = None
    target: Target = Target.IMAGE
    name: str | None = None
    zone: str | None = None
