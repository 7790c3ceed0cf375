# SPDX-License-Identifier: Apache-2.0
"""A guest on a block device, as Nova's are on LVM."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt

from bench.content import GIB
from bench.meter import Host
from bench.meter import Meter
from bench.sample import Sample
from bench.server import BenchServer
from bench.ways import Way
from lab.bounded import run
from lab.cloud.cloud import Cloud
from lab.directory import check_socket_path
from lab.directory import lab_directory
from lab.ticks import Ticks

#: The size of the device: the original's, without the end that holds no data.
SIZE = 4 * GIB

_NAME = 'bench-block'

_COPY_TIMEOUT = 1800
_TOOL_TIMEOUT = 60
_BOOT_TIMEOUT = 180

_CHANNEL = """\
<channel type='unix'>
  <source mode='bind' path='{path}'/>
  <target type='virtio' name='org.witness.tick'/>
</channel>
"""


class BlockGuest:
    """A copy of a server's guest, with its disk on a block device.

    Nova does not know it: its snapshots are taken by the command line. It is
    paused while no snapshot is taken.

    :param original: has 1 GiB of data, and is paused
    """

    def __init__(self, cloud: Cloud, original: BenchServer) -> None:
        self._cloud = cloud
        self._original = original
        self._directory = Path()
        self._domain: Any = None
        self._uuid = str(uuid.uuid4())
        self._socket = check_socket_path(cloud.directory / _NAME)

    @contextlib.contextmanager
    def running(self) -> Iterator[Ticks]:
        """Run the guest, and yield its ticks."""
        with contextlib.ExitStack() as stack:
            self._directory = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(
                        dir=lab_directory(), prefix='bench.'
                    )
                )
            )
            device = self._copy_disk()
            stack.callback(_run, 'losetup', '--detach', device)
            connection = libvirt.open(self._cloud.libvirt_uri)
            stack.callback(connection.close)
            self._domain = connection.defineXML(self._xml(device))
            stack.callback(self._domain.undefine)
            self._domain.create()
            stack.callback(self._domain.destroy)
            ticks = stack.enter_context(Ticks(self._socket))
            ticks.wait(10, _BOOT_TIMEOUT)
            self._domain.suspend()
            yield ticks

    def snapshot(
        self, subject: str, way: Way, number: int, ticks: Ticks
    ) -> Sample:
        """Take a snapshot into a file, and measure it."""
        self._domain.resume()
        try:
            ticks.wait(10, _BOOT_TIMEOUT)
            return self._snapshot(subject, way, number, ticks)
        finally:
            self._domain.suspend()

    def _snapshot(
        self, subject: str, way: Way, number: int, ticks: Ticks
    ) -> Sample:
        image = self._directory / 'image'
        instances = self._cloud.instances_path
        with Meter(Host(self._cloud, self._uuid, self._domain)) as meter:
            began = time.monotonic()
            run(
                [
                    Path(sys.executable).with_name('nova-snapshot'),
                    *('create', _NAME, '--output', image),
                    *('--connect', self._cloud.libvirt_uri),
                    *('--snapshots-directory', instances / 'snapshots'),
                    '--state-directory',
                    instances.parent / 'snapshot-driver',
                    *('--image-format', 'qcow2', '--method', way.method),
                ],
                timeout=_COPY_TIMEOUT,
            )
            ended = time.monotonic()
        size = image.stat().st_size
        image.unlink()
        return Sample(
            subject=subject,
            way=way.name,
            round=number,
            wall=ended - began,
            size=size,
            temporary=meter.temporary,
            stall=ticks.longest_gap(began, ended),
            away=meter.away,
        )

    def _copy_disk(self) -> str:
        """Copy the disk of the original, and return its block device."""
        disk = self._directory / 'disk'
        run(
            [
                # The paused owner of the disk holds its lock.
                *('qemu-img', 'convert', '-U', '-f', 'qcow2', '-O', 'raw'),
                *(self._original.disk, disk),
            ],
            timeout=_COPY_TIMEOUT,
        )
        # Truncate the disk: all of a block device is read.
        os.truncate(disk, SIZE)
        return _run('losetup', '--find', '--show', disk).strip()

    def _xml(self, device: str) -> str:
        """The XML of the original, with another disk."""
        original = self._original.domain
        text = original.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        # The UUID is in the paths of sockets, too.
        text = text.replace(original.UUIDString(), self._uuid)
        domain = ET.fromstring(text.replace(original.name(), _NAME))
        devices = _find(domain, 'devices')
        disk = _find(devices, 'disk')
        disk.set('type', 'block')
        _find(disk, 'driver').set('type', 'raw')
        source = _find(disk, 'source')
        source.attrib.clear()
        source.set('dev', device)
        for console in devices.findall('*/log/..'):
            console.remove(_find(console, 'log'))
        devices.append(ET.fromstring(_CHANNEL.format(path=self._socket)))
        return ET.tostring(domain, encoding='unicode')


def _find(parent: ET.Element, name: str) -> ET.Element:
    found = parent.find(name)
    assert found is not None
    return found


def _run(*argv: str | Path) -> str:
    return run(argv, timeout=_TOOL_TIMEOUT)
