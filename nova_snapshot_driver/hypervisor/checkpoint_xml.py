# SPDX-License-Identifier: Apache-2.0
"""The documents in which libvirt is told of a checkpoint, and tells of it.

A checkpoint is libvirt's record of a bitmap: QEMU notes in the bitmap what has
changed on a disk since the checkpoint was created.

Source: https://libvirt.org/formatcheckpoint.html
"""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor import libvirt_xml

#: libvirt wants to know when a checkpoint that it has forgotten was created,
#: and does nothing with it.
_ANY_TIME = '0'


@dataclasses.dataclass(frozen=True)
class Bitmap:
    """A bitmap that QEMU keeps of a disk; its checkpoint has the same name.

    :ivar disk: the name of the disk in the domain, as ``vda``
    """

    disk: str
    name: str


@dataclasses.dataclass(frozen=True)
class Tracking:
    """The bitmaps of a backup job.

    :ivar base: whose changes the job shows; None for a job that shows none
    :ivar new: that begins at the instant of the job; None for none
    """

    base: Bitmap | None = None
    new: Bitmap | None = None

    @property
    def disks(self) -> str:
        """The names of the disks with a bitmap, for a person."""
        bitmaps = (each for each in (self.base, self.new) if each is not None)
        return ', '.join(sorted({each.disk for each in bitmaps}))


#: The bitmaps of a job that has none.
UNTRACKED = Tracking()


def of_new(bitmap: Bitmap) -> str:
    """The document of a checkpoint that begins a bitmap.

    A disk that is not named gets none.
    """
    return _document(bitmap)


def of_known(bitmap: Bitmap) -> str:
    """The document of a checkpoint whose bitmap exists."""
    return _document(bitmap, bitmap.name, _ANY_TIME)


def dirty_bytes(xml: str, bitmap: Bitmap) -> int:
    """The bytes that have changed, as a checkpoint says.

    :param xml: of ``virDomainCheckpointGetXMLDesc`` with sizes
    """
    root = libvirt_xml.parsed(xml, 'a checkpoint')
    for disk in root.iterfind('disks/disk'):
        size = disk.get('size', '')
        if disk.get('name') == bitmap.disk and size.isdecimal():
            return int(size)
    raise exception.DescriptionUnreadable(
        what='a checkpoint', reason=f'it has no size for {bitmap.disk}'
    )


def _document(
    bitmap: Bitmap, existing: str | None = None, created: str | None = None
) -> str:
    root = ElementTree.Element('domaincheckpoint')
    ElementTree.SubElement(root, 'name').text = bitmap.name
    if created is not None:
        ElementTree.SubElement(root, 'creationTime').text = created
    disks = ElementTree.SubElement(root, 'disks')
    disk = ElementTree.SubElement(
        disks, 'disk', name=bitmap.disk, checkpoint='bitmap'
    )
    if existing is not None:
        disk.set('bitmap', existing)
    return ElementTree.tostring(root, encoding='unicode')
