# SPDX-License-Identifier: Apache-2.0
"""All that libvirt lets a ``<disk>`` say, and what a snapshot makes of it.

What decides about the content of a disk is honoured, or the snapshot is
refused: an image of other bytes than the guest's is worse than none. For
everything else the table says why it is no matter. What is not in the table
is refused too, since a newer libvirt may know something that decides.

Source: the RELAX NG schemas of libvirt (``domaincommon.rng``), and
https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
from xml.etree import ElementTree


class Ruling(enum.Enum):
    """The fate of a snapshot whose root disk has an element."""

    HONOURED = 'honoured'
    IRRELEVANT = 'irrelevant'
    REFUSED = 'refused'
    #: Served of a guest that is shut off or suspended.
    REFUSED_LIVE = 'refused live'
    #: Served by a backup job, in which QEMU reads the disk as the guest does.
    REFUSED_AT_REST = 'refused at rest'


@dataclasses.dataclass(frozen=True)
class Row:
    """The ruling on an element or an attribute.

    :ivar why: it is irrelevant, or refused; how it is honoured
    :ivar values: those that an attribute may have; any other is refused
    :ivar whole: it holds for everything inside of an element as well
    :ivar since: the version of libvirt that has brought it, if the oldest
        one that is supported does not have it
    """

    ruling: Ruling
    why: str
    values: tuple[str, ...] = ()
    whole: bool = False
    since: str | None = None


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Something of a disk for which there is no snapshot of it.

    :ivar what: the path of the element or attribute, and its value
    :ivar ruling: when it holds
    """

    what: str
    why: str
    ruling: Ruling = Ruling.REFUSED

    def __str__(self) -> str:
        return f'{self.what}: {self.why}'


#: The formats of libvirt that QEMU calls otherwise. Source:
#: ``qemuBlockStorageSourceGetBlockdevFormatProps`` in libvirt.
QEMU_DRIVERS = {'aio': 'raw', 'ploop': 'parallels', 'vhd': 'vhdx'}

#: The formats that QEMU opens; libvirt starts no guest on any other one.
FORMATS = (
    *('raw', 'qcow2', 'bochs', 'cloop', 'dmg', 'ploop', 'qcow', 'qed'),
    *('vdi', 'vhd', 'vmdk', 'vpc'),
)

FORMATS_WITH_BACKING = ('qcow2', 'qcow', 'qed', 'vmdk')

_OTHER_STORAGE = (
    'only files, block devices, volumes of such and images in Ceph are served'
)
_GUEST = 'the guest sees it, and the content is the same'
_SPEED = 'decides how fast the content is read and written, not what it is'
_LABEL = 'decides who may open it, not what is in it'
_CREATION = 'was for making the image, which keeps it in its own header'
_TRANSIENT = 'libvirt runs no job on a disk that is thrown away at the end'


def _honoured(why: str, *values: str) -> Row:
    return Row(Ruling.HONOURED, why, values)


def _irrelevant(why: str, *, since: str | None = None) -> Row:
    return Row(Ruling.IRRELEVANT, why, whole=True, since=since)


def _refused(
    why: str,
    ruling: Ruling = Ruling.REFUSED,
    *,
    whole: bool = True,
    since: str | None = None,
) -> Row:
    return Row(ruling, why, whole=whole, since=since)


_OTHER = _refused(_OTHER_STORAGE)

#: How the content is got at. libvirt takes it beneath the disk, where Nova
#: writes it, and beneath the source.
_ACCESS = {
    'auth': _honoured('how to get at an image in Ceph'),
    'auth/@username': _honoured('the user of Ceph'),
    'auth/secret': _irrelevant(
        'is the key of that user, which [libvirt] images_rbd_ceph_conf has'
    ),
    'encryption': _honoured('LUKS'),
    'encryption/@format': _honoured('LUKS', 'luks'),
    'encryption/@engine': _honoured('QEMU decrypts it', 'qemu'),
    'encryption/secret': _honoured('the passphrase'),
    'encryption/secret/@type': _honoured('the passphrase', 'passphrase'),
    'encryption/secret/@uuid': _honoured('is looked up in libvirt'),
    'encryption/secret/@usage': _refused(
        'the secret is looked up by its UUID'
    ),
    'encryption/cipher': _irrelevant(_CREATION),
    'encryption/ivgen': _irrelevant(_CREATION),
}

#: By the path inside of ``<disk>``. A row of a value goes before that of its
#: attribute. Beneath ``backingStore`` the rows of the disk hold too, unless
#: it has one of its own; what they refuse, a backup job serves there.
TABLE = {
    # The disk
    '@type': _honoured(
        'the kind of storage', 'file', 'block', 'network', 'volume'
    ),
    '@device': _honoured('the root disk is one of these', 'disk', 'lun'),
    '@device=lun': _refused(
        "the guest's SCSI commands go past QEMU's block layer to the device: "
        'a block job does not see what it writes, and gets in its way. Shut '
        'the guest off first.',
        Ruling.REFUSED_LIVE,
    ),
    '@model': _irrelevant(_GUEST),
    '@rawio': _irrelevant(_LABEL),
    '@sgio': _irrelevant('filters commands of the guest'),
    '@snapshot': _irrelevant("is for libvirt's own snapshots"),
    # The source
    'source': _honoured('where the content is'),
    'source/@file': _honoured('the path of a file'),
    'source/@dev': _honoured('the path of a block device'),
    'source/@pool': _honoured('the pool is looked up in libvirt'),
    'source/@volume': _honoured('the volume is looked up in the pool'),
    'source/@mode': _honoured('a volume of a host, not a URL', 'host'),
    'source/@protocol': _honoured('Ceph', 'rbd'),
    'source/@name': _honoured('the pool and the name of an image in Ceph'),
    'source/@index': _irrelevant("is the name of QEMU's node"),
    'source/@startupPolicy': _irrelevant(
        'lets a guest start without its disk; a disk that is missing fails '
        'the snapshot'
    ),
    'source/@fdgroup': _refused(
        'QEMU reads a file descriptor, which may be of another file than the '
        'path'
    ),
    'source/slices': _refused(
        'a part of the storage is the disk', Ruling.REFUSED_AT_REST
    ),
    'source/snapshot': _refused('it is a snapshot in Ceph, not an image'),
    'source/config': _refused(
        'Ceph is asked by [libvirt] images_rbd_ceph_conf, which may be '
        'another cluster'
    ),
    'source/host': _irrelevant(
        'names monitors of the cluster of [libvirt] images_rbd_ceph_conf, '
        'where Nova has them from'
    ),
    **{f'source/{path}': row for path, row in _ACCESS.items()},
    'source/seclabel': _irrelevant(_LABEL),
    'source/reservations': _irrelevant(
        'reserves the device, which fails a reader and shows it nothing else'
    ),
    # Sources of storage that is not served
    'source/@dir': _OTHER,
    'source/@managed': _OTHER,
    'source/@namespace': _OTHER,
    'source/@path': _OTHER,
    'source/@query': _OTHER,
    'source/@tls': _OTHER,
    'source/@tlsHostname': _OTHER,
    'source/@type': _OTHER,
    'source/address': _OTHER,
    'source/cookies': _OTHER,
    'source/identity': _OTHER,
    'source/initiator': _OTHER,
    'source/readahead': _OTHER,
    'source/reconnect': _OTHER,
    'source/ssl': _OTHER,
    'source/timeout': _OTHER,
    'source/dataStore': _refused(
        'the data lies in another file', since='10.10.0'
    ),
    # The images beneath
    'backingStore': _honoured(
        'the images beneath; empty, it ends the chain whatever the header of '
        'the image above it says'
    ),
    'backingStore/@type': Row(
        Ruling.HONOURED, 'the kind of storage', ('file', 'block')
    ),
    'backingStore/@index': _irrelevant("is the name of QEMU's node"),
    'backingStore/format': _honoured('is given, never probed'),
    'backingStore/format/@type': _honoured('is given, never probed', *FORMATS),
    'backingStore/format/metadata_cache': _irrelevant(_SPEED),
    'backingStore/source/encryption': _refused(
        'an image beneath is encrypted', Ruling.REFUSED_AT_REST
    ),
    # How it is opened
    'driver': _honoured('the format'),
    'driver/@name': _honoured('the hypervisor', 'qemu'),
    'driver/@type': _honoured('is given, never probed', *FORMATS, 'aio'),
    'driver/@cache': _irrelevant(
        'the host reads what QEMU has written, by whatever cache'
    ),
    'driver/@copy_on_read': _irrelevant(
        'moves content from an image beneath, and changes none'
    ),
    'driver/@detect_zeroes': _irrelevant(_SPEED),
    'driver/@discard': _irrelevant(
        'decides how what the guest has discarded is kept, not what it reads'
    ),
    'driver/@discard_no_unref': _irrelevant(_SPEED, since='9.5.0'),
    'driver/@error_policy': _irrelevant('is for errors of the guest'),
    'driver/@rerror_policy': _irrelevant('is for errors of the guest'),
    'driver/@io': _irrelevant(_SPEED),
    'driver/@ioeventfd': _irrelevant(_SPEED),
    'driver/@event_idx': _irrelevant(_SPEED),
    'driver/@iothread': _irrelevant(_SPEED),
    'driver/iothreads': _irrelevant(_SPEED, since='10.0.0'),
    'driver/@queues': _irrelevant(_SPEED),
    'driver/@queue_size': _irrelevant(_SPEED),
    'driver/@iommu': _irrelevant(_GUEST),
    'driver/@ats': _irrelevant(_GUEST),
    'driver/@packed': _irrelevant(_GUEST),
    'driver/@page_per_vq': _irrelevant(_GUEST),
    'driver/metadata_cache': _irrelevant(_SPEED),
    'iotune': _irrelevant(_SPEED),
    'throttlefilters': _irrelevant(_SPEED, since='11.2.0'),
    'readonly': _irrelevant('the guest only reads it'),
    'shareable': _refused(
        'another guest may write to it meanwhile, so that there is no '
        'instant to be had'
    ),
    'transient': _refused(_TRANSIENT, Ruling.REFUSED_LIVE),
    'mirror': _irrelevant('is a block job, which is looked for of its own'),
    **_ACCESS,
    'backenddomain': _refused('another domain serves it, on Xen'),
    # The face of the disk to the guest, beside its content
    'target': _honoured('its name'),
    'target/@dev': _honoured('its name'),
    'target/@bus': _irrelevant(_GUEST),
    'target/@tray': _irrelevant(_GUEST),
    'target/@removable': _irrelevant(_GUEST),
    'target/@rotation_rate': _irrelevant(_GUEST),
    'serial': _irrelevant(_GUEST),
    'wwn': _irrelevant(_GUEST),
    'vendor': _irrelevant(_GUEST),
    'product': _irrelevant(_GUEST),
    'geometry': _irrelevant(_GUEST),
    'blockio': _irrelevant(_GUEST),
    'boot': _irrelevant(
        'is where the firmware begins; the root disk is the first one'
    ),
    'alias': _irrelevant('is the name of the device'),
    'address': _irrelevant('is the place of the device'),
    'acpi': _irrelevant('is the place of the device'),
}

_BACKING = 'backingStore/'


def row(path: str, value: str | None = None) -> Row | None:
    """The row of an element or an attribute; None where nobody knows it.

    :param path: from ``<disk>``, as in ``source/host/@name``
    :param value: of an attribute
    """
    if path.startswith(_BACKING * 2):
        return row(path.removeprefix(_BACKING), value)
    found = TABLE.get(f'{path}={value}') or TABLE.get(path) or _above(path)
    if found is not None or not path.startswith(_BACKING):
        return found
    of_disk = row(path.removeprefix(_BACKING), value)
    if of_disk is not None and of_disk.ruling is Ruling.REFUSED:
        return dataclasses.replace(of_disk, ruling=Ruling.REFUSED_AT_REST)
    return of_disk


def _above(path: str) -> Row | None:
    """The row of an element that holds for all that is inside of it."""
    while '/' in path:
        path = path.rpartition('/')[0]
        found = TABLE.get(path)
        if found is not None:
            return found if found.whole else None
    return None


def refusals(disk: ElementTree.Element) -> tuple[Refusal, ...]:
    """Everything of a disk for which there is no snapshot of it."""
    found = [
        refusal
        for path, value in _content(disk, '')
        if (refusal := _refusal(path, value)) is not None
    ]
    driver = disk.find('driver')
    image_format = 'raw' if driver is None else driver.get('type', 'raw')
    return (*found, *_impossible_backing(disk, image_format))


def _impossible_backing(
    image: ElementTree.Element, image_format: str
) -> Iterator[Refusal]:
    """Refuse a backing file that the format of its image can't have.

    libvirt starts no guest on such an image; QEMU's tools would not mind.
    """
    store = image.find('backingStore')
    if store is None or store.find('source') is None:
        return
    if image_format not in FORMATS_WITH_BACKING:
        yield Refusal(
            'disk/backingStore', f'a {image_format} image has none beneath it'
        )
    layer = store.find('format')
    yield from _impossible_backing(
        store, '' if layer is None else layer.get('type', '')
    )


def _content(
    element: ElementTree.Element, above: str
) -> Iterator[tuple[str, str | None]]:
    for name, value in element.attrib.items():
        yield f'{above}@{name}', value
    for child in element:
        yield f'{above}{child.tag}', None
        yield from _content(child, f'{above}{child.tag}/')


def _refusal(path: str, value: str | None) -> Refusal | None:
    what = f'disk/{path}' + ('' if value is None else f'={value}')
    found = row(path, value)
    if found is None:
        return Refusal(what, 'this driver does not know what it means')
    if found.ruling in (Ruling.HONOURED, Ruling.IRRELEVANT):
        if not found.values or value in found.values:
            return None
        at_rest = path.startswith(_BACKING)
        return Refusal(
            what,
            f'it is not among those that are served '
            f'({", ".join(found.values)})',
            Ruling.REFUSED_AT_REST if at_rest else Ruling.REFUSED,
        )
    return Refusal(what, found.why, found.ruling)
