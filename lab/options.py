# SPDX-License-Identifier: Apache-2.0
"""The options of a guest."""

import dataclasses
import enum
from pathlib import Path


class Shape(enum.StrEnum):
    """The files a disk is made of."""

    RAW = 'raw'
    QCOW2 = 'qcow2'
    #: an overlay on a raw file: Nova's, with force_raw_images
    RAW_BASE = 'raw-base'
    #: an overlay on a qcow2 file
    CHAIN2 = 'chain2'
    #: an overlay on an overlay on a qcow2 file
    CHAIN3 = 'chain3'
    #: a block device, as on LVM
    BLOCK = 'block'
    #: a qcow2 file encrypted with LUKS
    LUKS = 'luks'


class Bus(enum.StrEnum):
    """The bus of the disks."""

    VIRTIO = 'virtio'
    IDE = 'ide'
    SCSI = 'scsi'


@dataclasses.dataclass(frozen=True)
class GuestOptions:
    """The options of a guest. The machine ``q35`` has no IDE."""

    name: str = 'witness'
    shape: Shape = Shape.CHAIN2
    bus: Bus = Bus.VIRTIO
    #: ``pc`` or ``q35``
    machine: str = 'pc'
    #: the cache mode of the disks
    cache: str = 'writeback'
    #: whether there is a channel to a guest agent
    agent: bool = True
    #: whether there is a second disk that gets each record after the log
    second_disk: bool = False
    #: a qcow2 image of a witness that the guest boots instead of a new disk
    snapshot: Path | None = None
    #: whether libvirt keeps the definition while the guest is shut off
    persistent: bool = True
    #: whether it may sleep (S3), and QEMU keeps it when its system crashes
    sleeps_and_crashes: bool = False
