# SPDX-License-Identifier: Apache-2.0
"""Snapshots read what libvirt opens, live and at rest.

The guests have no operating system: what was written on their disks before is
the proof. For each shape there is a raw file with what ``qemu-img convert``
makes of the images that libvirt starts the guest on.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ddt
import libvirt

from lab.bounded import run
from lab.cloud.libvirtd import Libvirtd
from lab.disks import Layer
from lab.hypervisor import run_event_loop
from lab.root import as_root
from nova_snapshot_driver import exception
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from tests.functional import base
from tests.functional import machine
from tests.unit import tables

MIB = 1 << 20
TIMEOUT = 60

#: The ways to the content of a disk whose guest runs on.
LIVE = ('backup', 'mirror')

#: All methods; the last one, which suspends the guest, takes longest.
ALL = (*LIVE, 'cold')

#: Streamed by qemu-nbd, and converted by qemu-img.
FORMATS = ('qcow2', 'vmdk')


@dataclasses.dataclass(frozen=True)
class Shape:
    """A disk, and what is on it.

    :ivar xml: the element of the domain
    :ivar truth: a raw file of the same content
    """

    xml: str
    truth: Path


class Images:
    """Makes images in a directory.

    Each of them has a pattern of its own in a place of its own, and another
    one in a place that all write to.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._made = 0

    def image(
        self,
        name: str,
        image_format: str,
        backing: Layer | None = None,
        driver: str | None = None,
    ) -> Layer:
        """
        :param backing: what its header says of the image beneath
        :param driver: what QEMU calls the format
        """
        path = self.directory / name
        driver = driver or image_format
        self._made += 1
        on: tuple[str | Path, ...] = ()
        if backing is not None:
            on = ('-b', backing.path, '-F', backing.format)
        _run('qemu-img', 'create', '-q', '-f', driver, *on, path, '8M')
        place, pattern = self._made * MIB, 0x10 + self._made
        self.write(path, driver, place, pattern)
        self.write(path, driver, 0, pattern)
        return Layer(path, image_format)

    def write(self, path: Path, driver: str, place: int, pattern: int) -> None:
        command = f'write -P {pattern} {place} 512k'
        _run('qemu-io', '-f', driver, '-c', command, path)

    def truth(self, *chain: Layer, driver: str | None = None) -> Path:
        """The content of images of which each lies on the next one.

        Copies of them get headers that say so.
        """
        copies = [
            Layer(self.directory / f'copy-{index}', layer.format)
            for index, layer in enumerate(chain)
        ]
        for layer, copy in zip(chain, copies, strict=True):
            shutil.copyfile(layer.path, copy.path)
        for copy, beneath in zip(copies, [*copies[1:], None], strict=True):
            if copy.format == 'qcow2':
                on = [beneath.path, '-F', beneath.format] if beneath else ['']
                _run('qemu-img', 'rebase', '-u', '-b', *on, copy.path)
        truth = self.directory / 'truth'
        _run(
            *('qemu-img', 'convert', '-f', driver or chain[0].format),
            *('-O', 'raw', copies[0].path, truth),
        )
        return truth


def _run(*command: str | Path) -> None:
    run(command, timeout=TIMEOUT)


def _flat(image_format: str, driver: str | None = None) -> Any:
    def shape(images: Images) -> Shape:
        disk = images.image('disk', image_format, driver=driver)
        return Shape(machine.disk_xml(disk), images.truth(disk, driver=driver))

    return shape


def _chain_of_the_header(images: Images) -> Shape:
    lowest = images.image('lowest', 'raw')
    middle = images.image('middle', 'qcow2', lowest)
    disk = images.image('disk', 'qcow2', middle)
    return Shape(machine.disk_xml(disk), images.truth(disk, middle, lowest))


def _chain_of_the_domain(images: Images) -> Shape:
    """The lowest image was moved, and the old one is there still."""
    old, new = images.image('old', 'qcow2'), images.image('new', 'qcow2')
    middle = images.image('middle', 'qcow2', old)
    disk = images.image('disk', 'qcow2', middle)
    return Shape(
        machine.disk_xml(disk, machine.backing_xml(middle, new)),
        images.truth(disk, middle, new),
    )


def _chain_that_the_domain_leaves_open(images: Images) -> Shape:
    lowest = images.image('lowest', 'raw')
    old = images.image('old', 'qcow2')
    middle = images.image('middle', 'qcow2', lowest)
    disk = images.image('disk', 'qcow2', old)
    return Shape(
        machine.disk_xml(disk, machine.backing_xml(middle, ends=False)),
        images.truth(disk, middle, lowest),
    )


def _chain_that_the_domain_ends(images: Images) -> Shape:
    lowest = images.image('lowest', 'raw')
    disk = images.image('disk', 'qcow2', lowest)
    return Shape(
        machine.disk_xml(disk, machine.backing_xml()), images.truth(disk)
    )


def _chain_that_the_domain_ends_later(images: Images) -> Shape:
    lowest = images.image('lowest', 'raw')
    middle = images.image('middle', 'qcow2', lowest)
    disk = images.image('disk', 'qcow2', middle)
    return Shape(
        machine.disk_xml(disk, machine.backing_xml(middle)),
        images.truth(disk, middle),
    )


def _another_format_beneath(images: Images) -> Shape:
    """The guest sees the header of the image beneath."""
    lowest = images.image('lowest', 'qcow2')
    disk = images.image('disk', 'qcow2', lowest)
    as_raw = Layer(lowest.path, 'raw')
    return Shape(
        machine.disk_xml(disk, machine.backing_xml(as_raw)),
        images.truth(disk, as_raw),
    )


def _strange_names(images: Images) -> Shape:
    directory = images.directory / 'a,b:c %20 é="d"'
    directory.mkdir()
    images = Images(directory)
    old = images.image("it's, old:", 'qcow2')
    new = images.image('new,driver=raw', 'qcow2')
    disk = images.image('json:{}&<disk>', 'qcow2', old)
    return Shape(
        machine.disk_xml(disk, machine.backing_xml(new)),
        images.truth(disk, new),
    )


SHAPES: dict[str, tuple[Callable[[Images], Shape], tuple[str, ...]]] = {
    'raw': (_flat('raw'), LIVE),
    'qcow2': (_flat('qcow2'), LIVE),
    'vmdk': (_flat('vmdk'), LIVE),
    # libvirt 9.0 hands its own name of the format on to QEMU in a backup job.
    'vhdx': (_flat('vhd', 'vhdx'), ()),
    'chain_of_the_header': (_chain_of_the_header, LIVE),
    'chain_of_the_domain': (_chain_of_the_domain, ALL),
    'chain_left_open': (_chain_that_the_domain_leaves_open, LIVE),
    'chain_ended': (_chain_that_the_domain_ends, LIVE),
    'chain_ended_later': (_chain_that_the_domain_ends_later, LIVE),
    'another_format_beneath': (_another_format_beneath, LIVE),
    'strange_names': (_strange_names, LIVE),
}


class ShapeCase(base.HostTest):
    def setUp(self) -> None:
        super().setUp()
        self.images = Images(self.directory)

    def define(self, *disks: str, connection: Any = None) -> Any:
        domain = (connection or self.connection).defineXML(
            machine.with_disks('shape', *disks)
        )
        self.addCleanup(
            domain.undefineFlags, libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        )
        return domain

    def holds_live(
        self,
        domain: Any,
        shape: Shape,
        live: tuple[str, ...] = ALL,
        connection: Any = None,
    ) -> None:
        domain.create()
        self.addCleanup(_destroy, domain)
        for path in live:
            self.holds(shape, connection, method=path)

    def holds_at_rest(
        self, domain: Any, shape: Shape, connection: Any = None
    ) -> None:
        _destroy(domain)
        for image_format in FORMATS:
            snapshot = self.holds(shape, connection, image_format=image_format)
            self.assertEqual('cold', snapshot.method)

    def holds(
        self, shape: Shape, connection: Any = None, **options: Any
    ) -> Snapshot:
        """An image has the content that libvirt would show to the guest."""
        image = self.output / 'image'
        image.unlink(missing_ok=True)
        snapshot = self.driver(connection, **options).snapshot_to_file(
            Instance('shape'), str(image)
        )
        run(
            [
                *('qemu-img', 'compare', '-f', 'raw'),
                *('-F', snapshot.disks[0].disk_format, shape.truth, image),
            ],
            timeout=TIMEOUT,
        )
        self.assertEqual(
            shape.truth.stat().st_size, snapshot.disks[0].disk_size
        )
        return snapshot

    def loop_device(self, content: Path) -> Path:
        device = as_root('losetup', '--find', '--show', content).strip()
        self.addCleanup(as_root, 'losetup', '--detach', device)
        as_root('chmod', 'o+rw', device)
        return Path(device)


@ddt.ddt
class DiskShapesTest(ShapeCase):
    @tables.rows(SHAPES)
    def test_live_and_at_rest(
        self, make: Callable[[Images], Shape], live: tuple[str, ...]
    ) -> None:
        shape = make(self.images)
        domain = self.define(shape.xml)
        self.holds_at_rest(domain, shape)
        self.holds_live(domain, shape, live)

    def test_block_devices(self) -> None:
        """An image on a device that lies on one on another device."""
        lowest = self.images.image('lowest', 'raw')
        disk = self.images.image('disk', 'qcow2', lowest)
        truth = self.images.truth(disk, lowest)
        # A device is as large as its file.
        os.truncate(disk.path, 16 * MIB)
        disk = Layer(self.loop_device(disk.path), 'qcow2')
        lowest = Layer(self.loop_device(lowest.path), 'raw')
        shape = Shape(
            machine.disk_xml(disk, machine.backing_xml(lowest)), truth
        )
        domain = self.define(shape.xml)
        self.holds_at_rest(domain, shape)
        self.holds_live(domain, shape)

    def test_lun(self) -> None:
        """A LUN is the root disk where it is the first of several."""
        disk = self.images.image('disk', 'raw')
        other = self.images.image('other', 'qcow2')
        device = Layer(self.loop_device(disk.path), 'raw')
        shape = Shape(
            machine.disk_xml(device, target='sda', device='lun'),
            self.images.truth(disk),
        )
        domain = self.define(shape.xml, machine.disk_xml(other))
        self.holds_at_rest(domain, shape)
        snapshot = self.holds(shape)
        self.assertEqual('sda', snapshot.disks[0].disk)
        self.assertEqual('raw', snapshot.disks[0].source_format)

    def test_boot_order(self) -> None:
        """The order of boot is no matter, as it is none to Nova."""
        disk = self.images.image('disk', 'qcow2')
        other = self.images.image('other', 'raw')
        second = machine.disk_xml(other, target='sda').replace(
            '<target', "<boot order='1'/><target"
        )
        shape = Shape(machine.disk_xml(disk), self.images.truth(disk))
        domain = self.define(shape.xml, second)
        self.holds_at_rest(domain, shape)
        snapshot = self.holds(shape)
        self.assertEqual('vda', snapshot.disks[0].disk)
        self.assertEqual('qcow2', snapshot.disks[0].source_format)

    def test_saved_guest_has_its_own_disk(self) -> None:
        """A saved guest comes back on the disk that it was saved with."""
        disk = self.images.image('disk', 'qcow2')
        other = self.images.image('other', 'qcow2')
        shape = Shape(machine.disk_xml(disk), self.images.truth(disk))
        domain = self.define(shape.xml)
        domain.create()
        domain.managedSave(0)
        self.connection.defineXML(
            domain.XMLDesc().replace(str(disk.path), str(other.path))
        )
        for image_format in FORMATS:
            self.holds(shape, image_format=image_format)

    def test_slice(self) -> None:
        """QEMU reads a part of a file as the disk, and others do not."""
        disk = self.images.image('disk', 'raw')
        truth = self.directory / 'truth'
        truth.write_bytes(disk.path.read_bytes()[MIB : 3 * MIB])
        source = machine.source_xml(disk)
        part = f"<slice type='storage' offset='{MIB}' size='{2 * MIB}'/>"
        sliced = source.replace('/>', f'><slices>{part}</slices></source>')
        shape = Shape(machine.disk_xml(disk).replace(source, sliced), truth)
        domain = self.define(shape.xml)
        self.is_refused('disk/source/slices')
        domain.create()
        self.addCleanup(_destroy, domain)
        self.holds(shape)
        self.is_refused('disk/source/slices', method='mirror')

    def test_transient(self) -> None:
        """libvirt itself does nothing with it while the guest runs."""
        disk = self.images.image('disk', 'qcow2')
        shape = Shape(
            machine.disk_xml(disk, '<transient/>'), self.images.truth(disk)
        )
        domain = self.define(shape.xml)
        self.holds_at_rest(domain, shape)
        domain.create()
        self.addCleanup(_destroy, domain)
        self.is_refused('disk/transient')

    def is_refused(self, what: str, **options: Any) -> None:
        error = self.assertRaises(
            exception.NotSupported,
            self.driver(**options).snapshot_to_file,
            Instance('shape'),
            str(self.output / 'refused'),
        )
        self.assertIn(what, str(error))
        self.assertFalse((self.output / 'refused').exists())


class PoolTest(ShapeCase):
    """A disk that is a volume of a pool, of a libvirt that has pools."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest('a libvirtd of its own needs root')
        run_event_loop()
        libvirtd = Libvirtd(self.directory)
        self.addCleanup(libvirtd.stop)
        libvirtd.start()
        self.libvirt = libvirt.open(libvirtd.uri)
        self.addCleanup(self.libvirt.close)
        directory = self.directory / 'pool'
        directory.mkdir()
        self.images = Images(directory)

    def test_volume(self) -> None:
        lowest = self.images.image('lowest', 'raw')
        disk = self.images.image('a disk', 'qcow2', lowest)
        pool = self.libvirt.storagePoolDefineXML(
            "<pool type='dir'><name>images</name><target>"
            f'<path>{self.images.directory}</path></target></pool>'
        )
        xml = (
            machine.disk_xml(disk)
            .replace("type='file'", "type='volume'")
            .replace(
                machine.source_xml(disk),
                "<source pool='images' volume='a disk'/>",
            )
        )
        shape = Shape(xml, self.images.truth(disk, lowest))
        domain = self.define(xml, connection=self.libvirt)
        error = self.assertRaises(
            exception.NotSupported, self.holds, shape, self.libvirt
        )
        self.assertIn('the volume images/a disk', str(error))
        self.assertIn('is not active', str(error))
        pool.create()
        self.holds_at_rest(domain, shape, self.libvirt)
        self.holds_live(domain, shape, connection=self.libvirt)


def _destroy(domain: Any) -> None:
    if domain.isActive():
        domain.destroy()
