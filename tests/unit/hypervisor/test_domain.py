# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ddt
import testtools

from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.hypervisor import domain
from nova_snapshot_driver.hypervisor.domain import Mirror
from tests.unit import documents
from tests.unit import tables

BLOCK_DISK = """\
<disk type='block' device='disk'>
  <driver name='qemu' type='raw' cache='none' io='native'/>
  <source dev='/dev/vg/web-1'/>
  <target dev='vda' bus='virtio'/>
</disk>
"""

NETWORK_DISK = """\
<disk type='network' device='disk'>
  <driver name='qemu' type='raw' cache='writeback'/>
  <auth username='nova'>
    <secret type='ceph' uuid='457eb676-33da-42ec-9a8c-9293d545c337'/>
  </auth>
  <source protocol='rbd' name='vms/web-1_disk'>
    <host name='10.0.0.1' port='6789'/>
  </source>
  <target dev='vda' bus='virtio'/>
</disk>
"""

#: Nova writes it beneath the disk, libvirt since 4.5 beneath the source.
LUKS_IN_DISK = """\
<disk type='block' device='disk'>
  <driver name='qemu' type='raw'/>
  <source dev='/dev/vg/web-1'/>
  <target dev='vda' bus='virtio'/>
  <encryption format='luks'>
    <secret type='passphrase' uuid='f52a81b2-424e-490c-823d-6bd4235bc572'/>
  </encryption>
</disk>
"""

LUKS_IN_SOURCE = """\
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2'/>
  <source file='/disk'>
    <encryption format='luks'>
      <secret type='passphrase' uuid='f52a81b2-424e-490c-823d-6bd4235bc572'/>
    </encryption>
  </source>
  <target dev='vda' bus='virtio'/>
</disk>
"""

#: As libvirt 9.0 has it, indices and all.
CHAIN_OF_THREE = """\
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2' cache='none'/>
  <source file='/instances/web-1/disk' index='1'/>
  <backingStore type='file' index='2'>
    <format type='qcow2'/>
    <source file='/instances/_base/middle'/>
    <backingStore type='file' index='3'>
      <format type='raw'/>
      <source file='/instances/_base/base'/>
      <backingStore/>
    </backingStore>
  </backingStore>
  <target dev='vda' bus='virtio'/>
  <alias name='virtio-disk0'/>
</disk>
"""

MIRRORED = """\
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2'/>
  <source file='/instances/web-1/disk' index='1'/>
  <backingStore type='file' index='2'>
    <format type='raw'/>
    <source file='/instances/_base/base'/>
    <backingStore/>
  </backingStore>
  <mirror type='file' file='/snapshots/delta' format='qcow2' job='copy'{}>
    <format type='qcow2'/>
    <source file='/snapshots/delta' index='3'/>
    <backingStore type='file' index='4'>
      <format type='raw'/>
      <source file='/instances/_base/base'/>
      <backingStore/>
    </backingStore>
  </mirror>
  <target dev='vda' bus='virtio'/>
</disk>
"""

MIRRORED_TO_NETWORK = """\
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2'/>
  <source file='/disk'/>
  <mirror type='network' job='copy' ready='yes'>
    <source protocol='nbd' name='vda'>
      <host name='10.0.0.2' port='49153'/>
    </source>
  </mirror>
  <target dev='vda' bus='virtio'/>
</disk>
"""

BARE_DISK = """\
<disk type='file'>
  <source file='/disk'/>
  <target dev='vda' bus='virtio'/>
</disk>
"""


def parse(devices: str, **fields: str) -> domain.Domain:
    return domain.parse(documents.inactive(devices, **fields))


def root(devices: str) -> domain.Disk:
    disk = parse(devices).root_disk
    assert disk is not None
    return disk


class IdentityTest(testtools.TestCase):
    def test_name_uuid_hypervisor(self) -> None:
        found = parse('', hypervisor='qemu')
        self.assertEqual(documents.NAME, found.name)
        self.assertEqual(documents.UUID, found.uuid)
        self.assertEqual('qemu', found.hypervisor)

    def test_metadata_of_nova(self) -> None:
        found = parse('')
        self.assertEqual(documents.PROJECT, found.project_id)
        self.assertEqual(documents.USER, found.user_id)
        self.assertEqual(documents.BASE_IMAGE, found.base_image)

    def test_volume_has_no_base_image(self) -> None:
        metadata = documents.METADATA.replace(
            f'<nova:root type="image" uuid="{documents.BASE_IMAGE}"/>',
            '<nova:root type="volume" uuid="0e4b5a"/>',
        )
        self.assertIsNone(parse('', metadata=metadata).base_image)

    def test_domain_without_nova(self) -> None:
        found = parse('', metadata='')
        self.assertIsNone(found.project_id)
        self.assertIsNone(found.user_id)
        self.assertIsNone(found.base_image)


@ddt.ddt
class DisksTest(testtools.TestCase):
    @tables.rows(
        {target: (target,) for target in ('hda', 'sda', 'vda', 'xvda')}
    )
    def test_root_disk(self, target: str) -> None:
        self.assertEqual(
            target, root(documents.file_disk('/disk', target)).target
        )

    def test_first_disk_in_the_document_is_the_root(self) -> None:
        found = parse(
            documents.file_disk('/root', 'vdb')
            + documents.file_disk('/other', 'vda')
        )
        self.assertEqual(['vdb', 'vda'], [d.target for d in found.disks])
        self.assertEqual('/root', found.root_disk and found.root_disk.path)

    @tables.rows(
        {
            'config_drive': (documents.CDROM,),
            'empty_cdrom': (documents.EMPTY_CDROM,),
        }
    )
    def test_cdrom_before_the_root_disk(self, cdrom: str) -> None:
        disk = root(cdrom + documents.file_disk('/disk'))
        self.assertEqual(('vda', '/disk'), (disk.target, disk.path))

    def test_no_disk(self) -> None:
        self.assertIsNone(parse(documents.CDROM).root_disk)

    def test_disk_by_target(self) -> None:
        found = parse(
            documents.file_disk('/a', 'vda') + documents.file_disk('/b', 'vdb')
        )
        disk = found.disk('vdb')
        self.assertEqual('/b', disk and disk.path)
        self.assertIsNone(found.disk('vdc'))

    def test_file(self) -> None:
        disk = root(documents.file_disk('/disk', image_format='raw'))
        self.assertEqual('file', disk.source)
        self.assertEqual('raw', disk.format)
        self.assertFalse(disk.encrypted)
        self.assertIsNone(disk.mirror)

    def test_block_device(self) -> None:
        disk = root(BLOCK_DISK)
        self.assertEqual('block', disk.source)
        self.assertEqual('/dev/vg/web-1', disk.path)

    def test_network_has_no_path(self) -> None:
        disk = root(NETWORK_DISK)
        self.assertEqual('network', disk.source)
        self.assertIsNone(disk.path)

    def test_ceph(self) -> None:
        self.assertEqual(
            RbdImage('vms', 'web-1_disk', 'nova'), root(NETWORK_DISK).rbd
        )

    @tables.rows(
        {
            'user': (
                "<auth username='nova'>",
                "<auth username='cinder'>",
                RbdImage('vms', 'web-1_disk', 'cinder'),
            ),
            'namespace': ('vms/web-1_disk', 'vms/a/web-1_disk', None),
            'no_pool': ('vms/web-1_disk', 'web-1_disk', None),
            'no_name': ('vms/web-1_disk', 'vms/', None),
            'other': ("protocol='rbd'", "protocol='nbd'", None),
            'snapshot': ('<host ', "<snapshot name='s'/><host ", None),
        }
    )
    def test_other_in_ceph(
        self, was: str, now: str, image: RbdImage | None
    ) -> None:
        self.assertIn(was, NETWORK_DISK)
        self.assertEqual(image, root(NETWORK_DISK.replace(was, now)).rbd)

    def test_user_beneath_the_source(self) -> None:
        """Where libvirt itself writes it since 4.5."""
        start, end = NETWORK_DISK.index('  <auth'), NETWORK_DISK.index('  <so')
        auth = NETWORK_DISK[start:end]
        disk = NETWORK_DISK.replace(auth, '').replace('<host', f'{auth}<host')
        self.assertEqual(RbdImage('vms', 'web-1_disk', 'nova'), root(disk).rbd)

    @tables.rows(
        {
            'usual': (None, '', 'rbd:vms/disk:id=nova'),
            'user': ('c', '', 'rbd:vms/disk:id=c'),
            'file': (None, '/c.conf', 'rbd:vms/disk:id=nova:conf=/c.conf'),
            'odd': ('a:b', '/x=y@z', r'rbd:vms/disk:id=a\:b:conf=/x\=y\@z'),
        }
    )
    def test_name_for_qemu(
        self, user: str | None, conf: str, name: str
    ) -> None:
        image = RbdImage('vms', 'disk', 'nova')
        self.assertEqual(name, image.filename(user, conf))

    def test_what_a_document_may_leave_out(self) -> None:
        disk = root(BARE_DISK)
        self.assertEqual('raw', disk.format)
        self.assertEqual('file', disk.source)

    @tables.rows({'in_disk': (LUKS_IN_DISK,), 'in_source': (LUKS_IN_SOURCE,)})
    def test_encrypted(self, disk: str) -> None:
        self.assertTrue(root(disk).encrypted)


BASE = Layer('/instances/_base/base', 'raw', is_last=True)


class BackingTest(testtools.TestCase):
    def test_inactive_document_says_nothing(self) -> None:
        disk = root(documents.file_disk('/disk'))
        self.assertIsNone(disk.backing)
        self.assertFalse(disk.is_last)

    def test_end_of_the_chain(self) -> None:
        disk = documents.file_disk('/disk').replace(
            '<target', '<backingStore/><target'
        )
        self.assertIsNone(root(disk).backing)
        self.assertTrue(root(disk).is_last)

    def test_chain_of_three(self) -> None:
        self.assertEqual(
            Layer('/instances/_base/middle', 'qcow2', backing=BASE),
            root(CHAIN_OF_THREE).backing,
        )

    def test_chain_of_two_is_not_that_of_the_mirror(self) -> None:
        self.assertEqual(
            BASE,
            root(MIRRORED.format('')).backing,
        )


class MirrorTest(testtools.TestCase):
    def test_under_way(self) -> None:
        self.assertEqual(
            Mirror('/snapshots/delta', ready=False),
            root(MIRRORED.format('')).mirror,
        )

    def test_ready(self) -> None:
        self.assertEqual(
            Mirror('/snapshots/delta', ready=True),
            root(MIRRORED.format(" ready='yes'")).mirror,
        )

    def test_being_aborted_is_not_ready(self) -> None:
        mirror = root(MIRRORED.format(" ready='abort'")).mirror
        self.assertEqual(False, mirror and mirror.ready)

    def test_to_the_network(self) -> None:
        self.assertEqual(
            Mirror(None, ready=True), root(MIRRORED_TO_NETWORK).mirror
        )


@ddt.ddt
class AgentTest(testtools.TestCase):
    @tables.rows(
        {
            'none': ('', False, False),
            'shut_off': (documents.CHANNEL, True, False),
            'connected': (
                documents.CHANNEL.replace(
                    "agent.0'", "agent.0' state='connected'"
                ),
                True,
                True,
            ),
            'disconnected': (
                documents.CHANNEL.replace(
                    "agent.0'", "agent.0' state='disconnected'"
                ),
                True,
                False,
            ),
            'other_channel': (
                documents.CHANNEL.replace(
                    "org.qemu.guest_agent.0'",
                    "com.redhat.spice.0' state='connected'",
                ),
                False,
                False,
            ),
        }
    )
    def test_channel(
        self, devices: str, channel: bool, connected: bool
    ) -> None:
        found = parse(devices)
        self.assertIs(channel, found.agent_channel)
        self.assertIs(connected, found.agent_connected)


@ddt.ddt
class HostDevicesTest(testtools.TestCase):
    @tables.rows(
        {
            'pci': (documents.PCI_DEVICE, '0x65'),
            'sriov': (documents.SRIOV_INTERFACE, '0x81'),
            'mdev': (documents.MEDIATED_DEVICE, '4b20d080'),
        }
    )
    def test_passed_through(self, device: str, address: str) -> None:
        tag = 'interface' if 'interface' in device else 'hostdev'
        live = device.replace(f'</{tag}>', f"<alias name='hostdev0'/></{tag}>")
        (found,) = parse(live).host_devices
        self.assertEqual('hostdev0', found.alias)
        # As it is given back to the guest.
        self.assertIn(address, found.xml)
        self.assertTrue(found.xml.startswith(f'<{tag}'))

    def test_not_passed_through(self) -> None:
        """libvirt saves a guest with a USB device as it is."""
        self.assertEqual((), parse(documents.USB_DEVICE).host_devices)

    def test_several_in_their_order(self) -> None:
        found = parse(
            documents.MEDIATED_DEVICE
            + documents.USB_DEVICE
            + documents.SRIOV_INTERFACE
            + documents.PCI_DEVICE
        )
        self.assertEqual(
            ['mdev', 'hostdev', 'pci'],
            [
                kind
                for device in found.host_devices
                for kind in ('mdev', 'hostdev', 'pci')
                if f'type="{kind}"' in device.xml.split('>')[0]
            ],
        )
