# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pathlib
import re
from xml.etree import ElementTree

import ddt
import testtools

from nova_snapshot_driver.hypervisor import disk_elements
from nova_snapshot_driver.hypervisor.disk_elements import TABLE
from nova_snapshot_driver.hypervisor.disk_elements import Row
from nova_snapshot_driver.hypervisor.disk_elements import Ruling
from tests.unit import tables
from tests.unit.disk_schema import Schema

PAGE = pathlib.Path(__file__).parents[3] / 'doc/source/reference/disks.rst'

DISK = """\
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2'/>
  <source file='/disk'/>
  <target dev='vda' bus='virtio'/>
  {}
</disk>
"""

#: All that Nova writes of a root disk. Source: LibvirtConfigGuestDisk.
NOVAS = """\
<disk type='network' device='disk' snapshot='external' sgio='filtered'
      model='virtio'>
  <driver name='qemu' type='raw' cache='writeback' io='native' discard='unmap'
          queues='4' iothread='1' packed='on' iommu='on'/>
  <auth username='nova'>
    <secret type='ceph' uuid='457eb676-33da-42ec-9a8c-9293d545c337'/>
  </auth>
  <source protocol='rbd' name='vms/web-1_disk' startupPolicy='optional'>
    <host name='10.0.0.1' port='6789'/>
  </source>
  <backingStore/>
  <mirror type='file' file='/delta' format='qcow2' job='copy' ready='yes'>
    <format type='qcow2'/>
    <source file='/delta'/>
  </mirror>
  <target dev='vda' bus='virtio'/>
  <serial>5f2c9d54-1c57-4b8e-8f49-3f6f0fd1a1b2</serial>
  <boot order='1'/>
  <blockio logical_block_size='512' physical_block_size='4096'/>
  <iotune><total_iops_sec>100</total_iops_sec></iotune>
  <encryption format='luks'>
    <secret type='passphrase' uuid='f52a81b2-424e-490c-823d-6bd4235bc572'/>
  </encryption>
  <alias name='virtio-disk0'/>
  <address type='pci' domain='0' bus='0' slot='4' function='0'/>
</disk>
"""


def refused(disk: str) -> dict[str, Ruling]:
    return {
        refusal.what: refusal.ruling
        for refusal in disk_elements.refusals(ElementTree.fromstring(disk))
    }


class SchemaTest(testtools.TestCase):
    """The table is that of libvirt's schema."""

    def setUp(self) -> None:
        super().setUp()
        self.schema = Schema('domain.rng').inside('disk')

    def test_schema_is_read(self) -> None:
        """In its depth, through what it refers to and includes."""
        for path in (
            'source/reservations/source/@path',
            'backingStore/source/slices/slice/@offset',
            'mirror/backingStore/format/@type',
            'driver/metadata_cache/max_size/@unit',
            'source/encryption/secret/@uuid',
            'iotune/group_name',
            'transient/@shareBacking',
        ):
            self.assertIn(path, self.schema)
        self.assertIn('vhostuser', self.schema['@type'])
        self.assertIn('nbd', self.schema['source/@protocol'])

    def test_every_element_and_attribute_is_in_the_table(self) -> None:
        unknown = [
            path for path in self.schema if disk_elements.row(path) is None
        ]
        self.assertEqual([], unknown)

    def test_every_row_is_in_the_schema(self) -> None:
        """But for those that a newer libvirt has brought."""
        superfluous = [
            path
            for path, row in TABLE.items()
            if path.partition('=')[0] not in self.schema and not row.since
        ]
        self.assertEqual([], superfluous)

    def test_every_value_of_a_row_is_in_the_schema(self) -> None:
        unknown = [
            (path, value)
            for path, row in TABLE.items()
            for value in row.values
            if self.schema.get(path) and value not in self.schema[path]
        ]
        self.assertEqual([], unknown)

    def test_values_that_decide_are_listed(self) -> None:
        """Where the schema lists what an honoured attribute may be."""
        unlisted = [
            path
            for path, row in TABLE.items()
            if row.ruling is Ruling.HONOURED
            and not row.values
            and self.schema.get(path)
            # A name, of which the schema lists what it may not be.
            and path not in ('source/@volume', 'target/@dev')
        ]
        self.assertEqual([], unlisted)

    def test_every_row_says_why(self) -> None:
        self.assertEqual([], [path for path in TABLE if not TABLE[path].why])


@ddt.ddt
class RefusalsTest(testtools.TestCase):
    def test_what_nova_writes(self) -> None:
        self.assertEqual({}, refused(NOVAS))

    def test_file(self) -> None:
        self.assertEqual({}, refused(DISK.format('')))

    @tables.rows(
        {
            'transient': (
                '<transient/>',
                'disk/transient',
                Ruling.REFUSED_LIVE,
            ),
            'shareable': ('<shareable/>', 'disk/shareable', Ruling.REFUSED),
            'new_element': ('<colour/>', 'disk/colour', Ruling.REFUSED),
            'another_domain': (
                "<backenddomain name='storage'/>",
                'disk/backenddomain',
                Ruling.REFUSED,
            ),
            'layer_on_other_storage': (
                "<backingStore type='network'><format type='raw'/>"
                "<source protocol='nbd' name='x'/></backingStore>",
                'disk/backingStore/source/@protocol=nbd',
                Ruling.REFUSED_AT_REST,
            ),
            'deep_layer': (
                "<backingStore type='file'><format type='qcow2'/>"
                "<source file='/a'/><backingStore type='file'>"
                "<format type='raw'/><source file='/b' fdgroup='c'/>"
                '</backingStore></backingStore>',
                'disk/backingStore/backingStore/source/@fdgroup=c',
                Ruling.REFUSED_AT_REST,
            ),
            'encrypted_layer': (
                "<backingStore type='file'><format type='raw'/><source "
                "file='/a'><encryption format='luks'/></source>"
                '</backingStore>',
                'disk/backingStore/source/encryption',
                Ruling.REFUSED_AT_REST,
            ),
            'layer_beneath_a_raw_one': (
                "<backingStore type='file'><format type='raw'/><source "
                "file='/a'/><backingStore type='file'><format type='raw'/>"
                "<source file='/b'/></backingStore></backingStore>",
                'disk/backingStore',
                Ruling.REFUSED,
            ),
        }
    )
    def test_child(self, child: str, what: str, ruling: Ruling) -> None:
        self.assertEqual(ruling, refused(DISK.format(child))[what])

    @tables.rows(
        {
            'directory': ("type='file'", "type='dir'", 'disk/@type=dir'),
            'new_type': ("type='file'", "type='tape'", 'disk/@type=tape'),
            'new_format': (
                "type='qcow2'",
                "type='qcow9'",
                'disk/driver/@type=qcow9',
            ),
            'new_attribute': (
                '<source ',
                "<source part='2' ",
                'disk/source/@part=2',
            ),
            'nbd': (
                'file=',
                "protocol='nbd' name=",
                'disk/source/@protocol=nbd',
            ),
        }
    )
    def test_instead(self, old: str, new: str, what: str) -> None:
        disk = DISK.format('').replace(old, new, 1)
        self.assertEqual(Ruling.REFUSED, refused(disk)[what])

    def test_lun(self) -> None:
        disk = DISK.format('').replace("device='disk'", "device='lun'")
        self.assertEqual(
            {'disk/@device=lun': Ruling.REFUSED_LIVE}, refused(disk)
        )

    def test_slice(self) -> None:
        disk = DISK.format('').replace(
            "<source file='/disk'/>",
            "<source file='/disk'><slices><slice type='storage' offset='512' "
            "size='1024'/></slices></source>",
        )
        self.assertEqual({Ruling.REFUSED_AT_REST}, set(refused(disk).values()))


class DocumentationTest(testtools.TestCase):
    """The page of the documentation has the same table."""

    def test_table(self) -> None:
        section = PAGE.read_text().split('All that a disk may say')[1]
        rows = re.findall(
            r'^   \* - ``(\S+)``\n     - (.+)\n     - (.+(?:\n       .+)*)',
            section,
            re.MULTILINE,
        )
        self.assertEqual(
            [in_words(path, row) for path, row in TABLE.items()],
            [
                (path, ruling, ' '.join(why.split()))
                for path, ruling, why in rows
            ],
        )


def in_words(path: str, row: Row) -> tuple[str, str, str]:
    values = f' ({", ".join(row.values)})' if row.values else ''
    since = f' (libvirt {row.since})' if row.since else ''
    return path, row.ruling.value, f'{row.why.rstrip(".")}{values}{since}'
