# SPDX-License-Identifier: Apache-2.0
"""A machine without an operating system, whose disk is the proof."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from lab.disks import Layer

_MACHINE = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <cpu mode='custom' match='exact'>
    <model fallback='allow'>qemu64</model>
  </cpu>
  <devices>
    <controller type='scsi' model='virtio-scsi'/>
    {disks}
  </devices>
</domain>
"""


def machine_xml(name: str, disk: Layer) -> str:
    """The definition of a domain that costs next to nothing."""
    return with_disks(name, disk_xml(disk))


def with_disks(name: str, *disks: str) -> str:
    """The definition of a cheap domain, whatever its disks are like.

    :param disks: elements of the XML
    """
    return _MACHINE.format(name=name, disks=''.join(disks))


def disk_xml(
    disk: Layer,
    backing: str = '',
    target: str = 'vda',
    device: str = 'disk',
) -> str:
    """A disk; one that is called as ``sda`` is on a SCSI bus.

    :param backing: the element ``backingStore``, if there is to be one
    """
    bus = 'scsi' if target.startswith('sd') else 'virtio'
    return (
        f"<disk type='{_kind(disk)}' device='{device}'>"
        f"<driver name='qemu' type='{disk.format}'/>{source_xml(disk)}"
        f"{backing}<target dev='{target}' bus='{bus}'/></disk>"
    )


def backing_xml(*chain: Layer, ends: bool = True) -> str:
    """The images beneath a disk, the nearest first.

    :param ends: that is all of them
    """
    if not chain:
        return '<backingStore/>' if ends else ''
    layer, *beneath = chain
    return (
        f"<backingStore type='{_kind(layer)}'>"
        f"<format type='{layer.format}'/>{source_xml(layer)}"
        f'{backing_xml(*beneath, ends=ends)}</backingStore>'
    )


def source_xml(disk: Layer) -> str:
    attribute = 'dev' if disk.path.is_block_device() else 'file'
    return f'<source {attribute}={quoteattr(str(disk.path))}/>'


def _kind(disk: Layer) -> str:
    return 'block' if disk.path.is_block_device() else 'file'
