# SPDX-License-Identifier: Apache-2.0
"""A machine without an operating system, whose disk is the proof."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from tests.lab.disks import Layer

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
    <disk type='{kind}' device='disk'>
      <driver name='qemu' type='{format}'/>
      <source {attribute}={path}/>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
"""


def machine_xml(name: str, disk: Layer) -> str:
    """The definition of a domain that costs next to nothing."""
    kind, attribute = 'file', 'file'
    if disk.path.is_block_device():
        kind, attribute = 'block', 'dev'
    return _MACHINE.format(
        name=name,
        kind=kind,
        format=disk.format,
        attribute=attribute,
        path=quoteattr(str(disk.path)),
    )
