# SPDX-License-Identifier: Apache-2.0
"""Domain XML as Nova and libvirt write it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

NAME = 'instance-0000002a'
UUID = '8a6f3f5e-2c0e-4a53-9d31-6b1a52b0f0c4'
RBD_IMAGE = f'{UUID}_disk'
PROJECT = '1b7c3d5e6f7a4b8c9d0e1f2a3b4c5d6e'
USER = '0f1e2d3c4b5a49788796a5b4c3d2e1f0'
BASE_IMAGE = '5f2c9d54-1c57-4b8e-8f49-3f6f0fd1a1b2'

#: The metadata that Nova keeps in a domain.
METADATA = f"""\
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:package version="34.0.0"/>
      <nova:name>web-1</nova:name>
      <nova:owner>
        <nova:user uuid="{USER}">alice</nova:user>
        <nova:project uuid="{PROJECT}">shop</nova:project>
      </nova:owner>
      <nova:root type="image" uuid="{BASE_IMAGE}"/>
    </nova:instance>
  </metadata>
"""

CDROM = """\
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw' cache='writeback'/>
      <source file='/var/lib/nova/instances/8a6f3f5e/disk.config'/>
      <target dev='sdz' bus='sata'/>
      <readonly/>
    </disk>
"""

EMPTY_CDROM = """\
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <target dev='hdc' bus='ide'/>
      <readonly/>
    </disk>
"""

CHANNEL = """\
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/agent.sock'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
      <address type='virtio-serial' controller='0' bus='0' port='1'/>
    </channel>
"""

#: The devices of every guest of Nova, some of them with secrets.
USUAL = """\
    <controller type='usb' index='0' model='none'/>
    <interface type='bridge'>
      <mac address='fa:16:3e:11:22:33'/>
      <source bridge='br-int'/>
      <model type='virtio'/>
    </interface>
    <serial type='pty'>
      <log file='/var/lib/nova/instances/8a6f3f5e/console.log' append='off'/>
      <target type='isa-serial' port='0'/>
    </serial>
    <tpm model='tpm-crb'>
      <backend type='emulator' version='2.0'/>
    </tpm>
    <graphics type='vnc' port='-1' autoport='yes' passwd='s3cret'>
      <listen type='address' address='127.0.0.1'/>
    </graphics>
    <memballoon model='virtio'/>
"""

PCI_DEVICE = """\
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source>
        <address domain='0x0000' bus='0x65' slot='0x00' function='0x0'/>
      </source>
      <address type='pci' domain='0x0' bus='0x00' slot='0x08' function='0x0'/>
    </hostdev>
"""

SRIOV_INTERFACE = """\
    <interface type='hostdev' managed='yes'>
      <mac address='fa:16:3e:44:55:66'/>
      <source>
        <address type='pci' domain='0x0000' bus='0x81' slot='0x10' function='0x2'/>
      </source>
      <vlan>
        <tag id='190'/>
      </vlan>
    </interface>
"""  # noqa: E501

MEDIATED_DEVICE = """\
    <hostdev mode='subsystem' type='mdev' model='vfio-pci'>
      <source>
        <address uuid='4b20d080-1b54-4048-85b3-a6a62d165c01'/>
      </source>
    </hostdev>
"""

USB_DEVICE = """\
    <hostdev mode='subsystem' type='usb' managed='yes'>
      <source>
        <vendor id='0x1050'/>
        <product id='0x0407'/>
      </source>
    </hostdev>
"""


def file_disk(
    path: str, target: str = 'vda', image_format: str = 'qcow2'
) -> str:
    """A disk in a file."""
    return f"""\
    <disk type='file' device='disk'>
      <driver name='qemu' type='{image_format}' cache='none' discard='unmap'/>
      <source file='{path}'/>
      <target dev='{target}' bus='virtio'/>
    </disk>
"""


def rbd_disk(name: str = f'vms/{RBD_IMAGE}') -> str:
    """A disk in Ceph, as Nova has it."""
    return f"""\
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw' cache='writeback' discard='unmap'/>
      <auth username='nova'>
        <secret type='ceph' uuid='457eb676-33da-42ec-9a8c-9293d545c337'/>
      </auth>
      <source protocol='rbd' name='{name}'>
        <host name='192.0.2.7' port='6789'/>
      </source>
      <target dev='vda' bus='virtio'/>
    </disk>
"""


def inactive(
    devices: str,
    *,
    name: str = NAME,
    uuid: str = UUID,
    hypervisor: str = 'kvm',
    metadata: str = METADATA,
) -> str:
    """The document of a domain that is shut off, with its secrets."""
    return f"""\
<domain type='{hypervisor}'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
{metadata}\
  <memory unit='KiB'>2097152</memory>
  <vcpu placement='static'>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
    <nvram>/var/lib/libvirt/qemu/nvram/{name}_VARS.fd</nvram>
  </os>
  <features>
    <acpi/>
  </features>
  <on_poweroff>destroy</on_poweroff>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
{devices}{USUAL}\
  </devices>
</domain>
"""


def without_secrets(xml: str) -> str:
    """The document as those get it who may not see secrets."""
    return re.sub(r""" passwd=(['"]).*?\1""", '', xml)


def backing_store(chain: list[tuple[str, str]]) -> ElementTree.Element:
    """The element in which libvirt describes the images beneath the topmost.

    :param chain: path and format of each, nearest first
    """
    store = ElementTree.Element('backingStore')
    if chain:
        (path, image_format), *beneath = chain
        store.set('type', 'file')
        ElementTree.SubElement(store, 'format', type=image_format)
        ElementTree.SubElement(store, 'source', file=path)
        store.append(backing_store(beneath))
    return store
