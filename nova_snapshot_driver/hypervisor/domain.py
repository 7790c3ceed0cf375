# SPDX-License-Identifier: Apache-2.0
"""The XML of a domain, as far as a snapshot has to know it.

Source: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import re
from typing import Self
from xml.etree import ElementTree

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.hypervisor import disk_elements
from nova_snapshot_driver.hypervisor import libvirt_xml
from nova_snapshot_driver.hypervisor.disk_elements import Refusal
from nova_snapshot_driver.hypervisor.disk_elements import Ruling

AGENT_CHANNEL = 'org.qemu.guest_agent.0'

#: The namespace of what Nova writes into the metadata.
NOVA = 'http://openstack.org/xmlns/libvirt/nova/1.1'


class PowerState(enum.Enum):
    """The activity of a guest; all but the last two have a QEMU process."""

    RUNNING = 'running'
    PAUSED = 'paused'
    #: In ACPI S3: its vCPUs stand still until it is woken.
    ASLEEP = 'asleep'
    #: The guest's system has crashed, and its QEMU process is preserved.
    CRASHED = 'crashed'
    #: The guest's system has ended, and its QEMU process is about to.
    SHUTTING_DOWN = 'shutting down'
    SHUT_OFF = 'shut off'
    #: Shut off, with its memory in a managed save.
    SUSPENDED = 'suspended'


@dataclasses.dataclass(frozen=True)
class Mirror:
    """The target of a block job that copies a disk.

    :ivar path: the file or device that is written, if it is one
    """

    path: str | None
    ready: bool


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume of a storage pool of libvirt."""

    pool: str
    name: str

    def __str__(self) -> str:
        return f'{self.pool}/{self.name}'


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk device of the domain.

    :ivar target: the name in the domain, for example ``vda``
    :ivar source: the kind of storage: file, block, network or volume
    :ivar path: the file or block device, None for any other storage
    :ivar rbd: the image in Ceph, None for any other storage
    :ivar volume: of a pool, which libvirt looks up when the guest starts
    :ivar format: the format of the topmost image, as libvirt has it
    :ivar backing: the image beneath the topmost one, with those beneath it,
        where the domain names it; it does so of all while it is active
    :ivar is_last: the domain has it that no image is beneath
    :ivar refusals: what it has for which there is no snapshot of it
    :ivar device: how the guest sees it: disk or lun
    :ivar secret: the UUID of the secret in libvirt that a LUKS image is
        unlocked with
    :ivar serial: what the guest sees as its serial number
    :ivar bus: on which the guest sees it, for example ``virtio``
    """

    target: str
    source: str
    format: str
    path: str | None
    backing: Layer | None = None
    is_last: bool = False
    encrypted: bool = False
    secret: str | None = None
    mirror: Mirror | None = None
    serial: str | None = None
    bus: str | None = None
    rbd: RbdImage | None = None
    volume: Volume | None = None
    refusals: tuple[Refusal, ...] = ()
    device: str = 'disk'

    @property
    def is_refused(self) -> bool:
        """No snapshot of the disk is possible, whatever its guest does."""
        return any(
            refusal.ruling is Ruling.REFUSED for refusal in self.refusals
        )

    def layer(self, path: str) -> Layer:
        """The topmost image, with those beneath as far as they are named.

        :param path: what QEMU's tools call it
        """
        return Layer(
            path,
            _driver(self.format),
            backing=self.backing,
            is_last=self.is_last,
        )


@dataclasses.dataclass(frozen=True)
class HostDevice:
    """A device that can be detached and attached anew.

    It is passed through from the host, or is the channel of the guest agent.

    :ivar alias: what libvirt calls it, until it is attached anew
    :ivar xml: the device as ``virDomainAttachDeviceFlags`` takes it
    :ivar identity: what stays the same when it is attached anew
    """

    alias: str
    xml: str
    identity: str


@dataclasses.dataclass(frozen=True)
class QemuUser:
    """The user that QEMU runs as.

    :ivar gid: its group; None where libvirt does not say it
    """

    uid: int
    gid: int | None = None

    @classmethod
    def from_label(cls, label: str | None) -> Self | None:
        """
        :param label: of libvirt's security model ``dac``, such as
            ``+64055:+108``
        """
        match = _DAC_LABEL.fullmatch(label or '')
        if match is None:
            return None
        ids = [int(each) for each in match.groups() if each is not None]
        return cls(*ids) if max(ids) <= _LAST_ID else None


_DAC_LABEL = re.compile(r'\+?([0-9]{1,10})(?::\+?([0-9]{1,10}))?')

#: The last user or group that there can be: the next number is nobody's.
_LAST_ID = 2**32 - 2


@dataclasses.dataclass(frozen=True)
class Domain:
    """A domain, as described at one moment.

    :ivar active: libvirt has it running, in whatever state
    :ivar agent_connected: an agent has opened its end of that channel;
        known of a running domain alone
    :ivar agent_device: the channel for the guest agent; None where there is
        none
    :ivar host_devices: what must be detached before the guest can be saved
    :ivar qemu_user: that the running QEMU is; None where libvirt does not say
        it
    :ivar project_id: from the metadata that Nova writes, as the next two
    """

    name: str
    uuid: str
    hypervisor: str
    disks: tuple[Disk, ...]
    active: bool = False
    agent_connected: bool = False
    agent_device: HostDevice | None = None
    host_devices: tuple[HostDevice, ...] = ()
    qemu_user: QemuUser | None = None
    project_id: str | None = None
    user_id: str | None = None
    base_image: str | None = None

    @property
    def agent_channel(self) -> bool:
        return self.agent_device is not None

    @property
    def detachable_devices(self) -> tuple[HostDevice, ...]:
        """Every device that a snapshot may detach, and attaches again."""
        if self.agent_device is None:
            return self.host_devices
        return (*self.host_devices, self.agent_device)

    @property
    def root_disk(self) -> Disk | None:
        """The first disk or LUN, as Nova finds it (``find_disk``)."""
        return self.disks[0] if self.disks else None

    def disk(self, target: str) -> Disk | None:
        return next((d for d in self.disks if d.target == target), None)


def parse(xml: str) -> Domain:
    """The domain that a document of ``virDomainGetXMLDesc`` describes.

    :raises DescriptionUnreadable: it describes none
    """
    root = libvirt_xml.parsed(xml, 'a domain')
    channel = root.find(
        f"devices/channel/target[@type='virtio'][@name='{AGENT_CHANNEL}']/.."
    )
    nova = f'metadata/{{{NOVA}}}instance/{{{NOVA}}}'
    return Domain(
        name=root.findtext('name', ''),
        uuid=root.findtext('uuid', ''),
        hypervisor=root.get('type', ''),
        disks=tuple(
            _disk(disk)
            for disk in root.iterfind('devices/disk')
            if disk.get('device', 'disk') in ('disk', 'lun')
        ),
        active='id' in root.attrib,
        agent_connected=channel is not None
        and _attribute(channel, 'target', 'state') == 'connected',
        agent_device=None if channel is None else _device(channel),
        host_devices=tuple(
            _device(device)
            for device in root.iterfind('devices/*')
            if _is_passed_through(device)
        ),
        qemu_user=QemuUser.from_label(
            root.findtext("seclabel[@model='dac']/label")
        ),
        project_id=_attribute(root, f'{nova}owner/{{{NOVA}}}project', 'uuid'),
        user_id=_attribute(root, f'{nova}owner/{{{NOVA}}}user', 'uuid'),
        base_image=_attribute(root, f"{nova}root[@type='image']", 'uuid'),
    )


def _attribute(root: ElementTree.Element, path: str, name: str) -> str | None:
    element = root.find(path)
    return None if element is None else element.get(name)


def _path(element: ElementTree.Element) -> str | None:
    source = element.find('source')
    if source is None:
        return None
    return source.get('file') or source.get('dev')


def _rbd(disk: ElementTree.Element) -> RbdImage | None:
    """The whole image in a pool, as Nova names it; no snapshot of one."""
    source = disk.find("source[@protocol='rbd']")
    if source is None or source.find('snapshot') is not None:
        return None
    match source.get('name', '').split('/'):
        case [str(pool), str(name)] if pool and name:
            user = _attribute(disk, 'auth', 'username') or _attribute(
                source, 'auth', 'username'
            )
            return RbdImage(pool, name, user)
    return None


def _disk(disk: ElementTree.Element) -> Disk:
    mirror = disk.find('mirror')
    encryption = disk.find('encryption')
    if encryption is None:
        encryption = disk.find('source/encryption')
    return Disk(
        target=_target(disk),
        source=disk.get('type', 'file'),
        format=_attribute(disk, 'driver', 'type') or 'raw',
        path=_path(disk),
        backing=_backing(disk),
        is_last=_is_last(disk),
        encrypted=encryption is not None,
        secret=_luks_secret(encryption),
        mirror=None
        if mirror is None
        else Mirror(_path(mirror), mirror.get('ready') == 'yes'),
        serial=disk.findtext('serial'),
        bus=_attribute(disk, 'target', 'bus'),
        rbd=_rbd(disk),
        volume=_volume(disk),
        refusals=disk_elements.refusals(disk),
        device=disk.get('device', 'disk'),
    )


def _target(disk: ElementTree.Element) -> str:
    target = _attribute(disk, 'target', 'dev')
    if not target:
        raise exception.DescriptionUnreadable(
            what='a domain', reason='a disk has no target'
        )
    return target


def _volume(disk: ElementTree.Element) -> Volume | None:
    source = disk.find('source')
    if disk.get('type') != 'volume' or source is None:
        return None
    return Volume(source.get('pool', ''), source.get('volume', ''))


def _luks_secret(encryption: ElementTree.Element | None) -> str | None:
    if encryption is None or encryption.get('format') != 'luks':
        return None
    return _attribute(encryption, "secret[@type='passphrase']", 'uuid')


def _backing(image: ElementTree.Element) -> Layer | None:
    store = image.find('backingStore')
    if store is None or _is_last(image):
        return None
    return Layer(
        path=_path(store) or '',
        format=_driver(_attribute(store, 'format', 'type') or ''),
        backing=_backing(store),
        is_last=_is_last(store),
    )


def _is_last(image: ElementTree.Element) -> bool:
    """An empty element ends the chain, and no element leaves it open."""
    store = image.find('backingStore')
    return store is not None and store.find('source') is None


def _driver(image_format: str) -> str:
    return disk_elements.QEMU_DRIVERS.get(image_format, image_format)


def _is_passed_through(device: ElementTree.Element) -> bool:
    """Whether the device ties the guest's memory to this host.

    PCI devices and mediated devices, and the virtual functions of SR-IOV,
    which are network interfaces of the type ``hostdev``.
    """
    if device.tag == 'hostdev':
        return device.get('type') in ('pci', 'mdev')
    return device.tag == 'interface' and device.get('type') == 'hostdev'


def _device(device: ElementTree.Element) -> HostDevice:
    lasting = copy.deepcopy(device)
    # libvirt gives the device a new address and alias when it is attached.
    for name in ('address', 'alias'):
        for element in lasting.findall(name):
            lasting.remove(element)
    # The state of a channel is the agent's, and comes and goes with it.
    for target in lasting.findall('target'):
        target.attrib.pop('state', None)
    return HostDevice(
        alias=_attribute(device, 'alias', 'name') or '',
        xml=ElementTree.tostring(device, encoding='unicode'),
        identity=ElementTree.canonicalize(
            ElementTree.tostring(lasting, encoding='unicode'), strip_text=True
        ),
    )
