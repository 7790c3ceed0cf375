# SPDX-License-Identifier: Apache-2.0
"""What a domain's XML says, as far as a snapshot has to know it.

Source: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import re
from xml.etree import ElementTree

AGENT_CHANNEL = 'org.qemu.guest_agent.0'

#: The namespace of what Nova writes into the metadata.
NOVA = 'http://openstack.org/xmlns/libvirt/nova/1.1'


class PowerState(enum.Enum):
    """The states in which a guest can be snapshotted."""

    RUNNING = 'running'
    PAUSED = 'paused'
    SHUT_OFF = 'shut off'
    #: Shut off, with its memory in a managed save.
    SUSPENDED = 'suspended'


@dataclasses.dataclass(frozen=True)
class Layer:
    """One image of a backing chain.

    :ivar passphrase: in base64, of an image that is encrypted with LUKS and
        read without libvirt
    """

    path: str
    format: str
    passphrase: str | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class Mirror:
    """The target of a block job that copies a disk.

    :ivar path: the file or device that is written, if it is one
    """

    path: str | None
    ready: bool


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
        """What QEMU's tools call it.

        They find the key by the configuration, as Nova's own driver does.

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


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk device of the domain.

    :ivar target: the name in the domain, for example ``vda``
    :ivar source: the kind of storage: file, block, network or volume
    :ivar path: the file or block device, None for any other storage
    :ivar rbd: the image in Ceph, None for any other storage
    :ivar format: the format of the topmost image, as libvirt has it
    :ivar backing: the images beneath the topmost one, nearest first; known
        of a running domain alone
    :ivar secret: the UUID of the secret in libvirt that a LUKS image is
        unlocked with
    :ivar serial: what the guest sees as its serial number
    :ivar bus: on which the guest sees it, for example ``virtio``
    """

    target: str
    source: str
    format: str
    path: str | None
    backing: tuple[Layer, ...] = ()
    encrypted: bool = False
    secret: str | None = None
    mirror: Mirror | None = None
    serial: str | None = None
    bus: str | None = None
    rbd: RbdImage | None = None


@dataclasses.dataclass(frozen=True)
class HostDevice:
    """A device of the host that is passed through to the guest.

    :ivar alias: what libvirt calls it, until it is attached anew
    :ivar xml: the device as ``virDomainAttachDeviceFlags`` takes it
    :ivar identity: what stays the same when it is attached anew
    """

    alias: str
    xml: str
    identity: str


@dataclasses.dataclass(frozen=True)
class Domain:
    """A domain, as described at one moment.

    :ivar agent_channel: there is a channel for the guest agent
    :ivar agent_connected: an agent has opened its end of that channel;
        known of a running domain alone
    :ivar host_devices: what must be detached before the guest can be saved
    :ivar qemu_uid: the user that the running QEMU is; None where libvirt does
        not say it
    :ivar project_id: from the metadata that Nova writes, as the next two
    """

    name: str
    uuid: str
    hypervisor: str
    disks: tuple[Disk, ...]
    agent_channel: bool = False
    agent_connected: bool = False
    host_devices: tuple[HostDevice, ...] = ()
    qemu_uid: int | None = None
    project_id: str | None = None
    user_id: str | None = None
    base_image: str | None = None

    @property
    def root_disk(self) -> Disk | None:
        """The first disk device, as Nova finds it (``find_disk``)."""
        return self.disks[0] if self.disks else None

    def disk(self, target: str) -> Disk | None:
        return next((d for d in self.disks if d.target == target), None)


def parse(xml: str) -> Domain:
    """The domain that a document of ``virDomainGetXMLDesc`` describes."""
    root = ElementTree.fromstring(xml)  # noqa: S314 (libvirt wrote it)
    channel = root.find(
        f"devices/channel/target[@type='virtio'][@name='{AGENT_CHANNEL}']"
    )
    nova = f'metadata/{{{NOVA}}}instance/{{{NOVA}}}'
    return Domain(
        name=root.findtext('name', ''),
        uuid=root.findtext('uuid', ''),
        hypervisor=root.get('type', ''),
        disks=tuple(
            _disk(disk)
            for disk in root.iterfind('devices/disk')
            if disk.get('device', 'disk') == 'disk'
        ),
        agent_channel=channel is not None,
        agent_connected=channel is not None
        and channel.get('state') == 'connected',
        host_devices=tuple(
            _host_device(device)
            for device in root.iterfind('devices/*')
            if _is_passed_through(device)
        ),
        qemu_uid=_qemu_uid(root),
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


def _qemu_uid(root: ElementTree.Element) -> int | None:
    """From a label such as ``+64055:+108``."""
    label = root.findtext("seclabel[@model='dac']/label", '')
    user = label.partition(':')[0]
    return int(user) if user.removeprefix('+').isdecimal() else None


def _disk(disk: ElementTree.Element) -> Disk:
    mirror = disk.find('mirror')
    encryption = disk.find('encryption')
    if encryption is None:
        encryption = disk.find('source/encryption')
    return Disk(
        target=disk.find('target').get('dev', ''),  # type: ignore[union-attr]
        source=disk.get('type', 'file'),
        format=_attribute(disk, 'driver', 'type') or 'raw',
        path=_path(disk),
        backing=_backing(disk),
        encrypted=encryption is not None,
        secret=_luks_secret(encryption),
        mirror=None
        if mirror is None
        else Mirror(_path(mirror), mirror.get('ready') == 'yes'),
        serial=disk.findtext('serial'),
        bus=_attribute(disk, 'target', 'bus'),
        rbd=_rbd(disk),
    )


def _luks_secret(encryption: ElementTree.Element | None) -> str | None:
    if encryption is None or encryption.get('format') != 'luks':
        return None
    return _attribute(encryption, "secret[@type='passphrase']", 'uuid')


def _backing(disk: ElementTree.Element) -> tuple[Layer, ...]:
    layers = []
    store = disk.find('backingStore')
    while store is not None and store.find('source') is not None:
        layers.append(
            Layer(
                path=_path(store) or '',
                format=_attribute(store, 'format', 'type') or '',
            )
        )
        store = store.find('backingStore')
    return tuple(layers)


def _is_passed_through(device: ElementTree.Element) -> bool:
    """Whether the device ties the guest's memory to this host.

    PCI devices and mediated devices, and the virtual functions of SR-IOV,
    which are network interfaces of the type ``hostdev``.
    """
    if device.tag == 'hostdev':
        return device.get('type') in ('pci', 'mdev')
    return device.tag == 'interface' and device.get('type') == 'hostdev'


def _host_device(device: ElementTree.Element) -> HostDevice:
    lasting = copy.deepcopy(device)
    # Where the guest sees it, and what libvirt calls it, is given anew.
    for name in ('address', 'alias'):
        for element in lasting.findall(name):
            lasting.remove(element)
    return HostDevice(
        alias=_attribute(device, 'alias', 'name') or '',
        xml=ElementTree.tostring(device, encoding='unicode'),
        identity=ElementTree.canonicalize(
            ElementTree.tostring(lasting, encoding='unicode'), strip_text=True
        ),
    )
