# SPDX-License-Identifier: Apache-2.0
"""The domain XML of a guest."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from lab import secret
from lab.disks import Layer
from lab.options import Bus
from lab.options import GuestOptions

_TARGET_PREFIXES = {
    Bus.VIRTIO: 'vd',
    Bus.IDE: 'hd',
    Bus.SCSI: 'sd',
}

_FACULTIES = """
  <on_crash>preserve</on_crash>
  <pm><suspend-to-mem enabled='yes'/></pm>"""


@dataclasses.dataclass(frozen=True)
class Sockets:
    """Where QEMU listens on the host."""

    agent: Path
    tick: Path


def domain_xml(
    options: GuestOptions,
    domain_type: str,
    disks: Sequence[Layer],
    sockets: Sockets,
    console: Path,
) -> str:
    """Return the XML of a domain that boots from the first of *disks*.

    :param domain_type: ``kvm`` or ``qemu``
    :param disks: the active layer of each disk
    :param console: the file that gets the output of the serial console
    """
    devices = [
        # An idle USB controller costs an emulated processor a lot.
        "<controller type='usb' model='none'/>",
        "<memballoon model='none'/>",
        f"<serial type='file'><source path={quoteattr(str(console))} "
        "append='on'/></serial>",
        _channel('org.witness.tick', sockets.tick),
    ]
    if options.agent:
        devices.append(_channel('org.qemu.guest_agent.0', sockets.agent))
    if options.bus is Bus.SCSI:
        devices.append("<controller type='scsi' model='virtio-scsi'/>")
    faculties = ''
    if options.sleeps_and_crashes:
        faculties = _FACULTIES
        devices.append("<panic model='isa'/>")
    for index, layer in enumerate(disks):
        devices.append(_disk(options, layer, target_name(options, index)))
    return f"""\
<domain type='{domain_type}'>
  <name>{options.name}</name>
  <memory unit='MiB'>192</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='{options.machine}'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features><acpi/></features>{faculties}
  <devices>
    {''.join(devices)}
  </devices>
</domain>
"""


def target_name(options: GuestOptions, index: int) -> str:
    """Return the target of a disk, such as ``vda`` for the first one."""
    return _TARGET_PREFIXES[options.bus] + 'abcd'[index]


def _disk(options: GuestOptions, layer: Layer, target: str) -> str:
    is_device = layer.path.is_block_device()
    source = quoteattr(str(layer.path))
    return (
        f"<disk type='{'block' if is_device else 'file'}' device='disk'>"
        f"<driver name='qemu' type='{layer.format}' "
        f"cache='{options.cache}'/>"
        f'<source {"dev" if is_device else "file"}={source}>'
        f'{_encryption() if layer.encrypted else ""}</source>'
        f"<target dev='{target}' bus='{options.bus}'/>"
        '</disk>'
    )


def _encryption() -> str:
    return (
        "<encryption format='luks'>"
        f"<secret type='passphrase' uuid='{secret.UUID}'/></encryption>"
    )


def _channel(name: str, socket: Path) -> str:
    return (
        "<channel type='unix'>"
        f"<source mode='bind' path={quoteattr(str(socket))}/>"
        f"<target type='virtio' name='{name}'/>"
        '</channel>'
    )
