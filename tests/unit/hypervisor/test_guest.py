# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import weakref

import libvirt

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.host import Host
from tests.unit import documents
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.hypervisor.guest_case import GuestCase


class DescriptionTest(GuestCase):
    def test_saved_guest_has_the_disk_that_it_was_saved_with(self) -> None:
        disk = self.root()
        FakeDomain(self.machine).managedSave(0)
        assert self.machine.config is not None and disk.path is not None
        self.machine.config = self.machine.config.replace(disk.path, '/new')
        self.assertEqual(disk.path, self.root().path)
        self.machine.saved = None
        self.assertEqual('/new', self.root().path)

    def test_volume_that_is_not_found(self) -> None:
        """The domain is found all the same."""
        connection = libvirt.open('test:///default')
        self.addCleanup(connection.close)
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        disk = (
            documents.file_disk('/disk')
            .replace("type='file'", "type='volume'", 1)
            .replace("file='/disk'", "pool='default-pool' volume='disk'")
        )
        connection.defineXML(documents.inactive(disk, hypervisor='test'))
        guest = Host(connection).guest(documents.NAME)
        (root,) = guest.describe().disks
        self.assertEqual('default-pool/disk', str(root.volume))
        self.assertIn('no storage vol', str(root.refusals[0]))
        connection.storagePoolLookupByName('default-pool').createXML(
            '<volume><name>disk</name><capacity>8192</capacity></volume>'
        )
        (root,) = guest.describe().disks
        self.assertEqual('/default-pool/disk', root.path)


class HandleTest(GuestCase):
    def test_freed_without_the_garbage_collector(self) -> None:
        """Freeing a handle resets the error of another call on the thread."""
        gc.disable()
        self.addCleanup(gc.enable)
        guest = Host(self.host.connection).guest(documents.NAME)
        guest.power.state()
        guest.jobs.backup_socket()
        kept = weakref.ref(guest)
        del guest
        self.assertIsNone(kept())


class DefinitionTest(GuestCase):
    def test_has_the_secrets(self) -> None:
        definition = self.guest.definition()
        self.assertEqual(documents.NAME, definition.name)
        self.assertEqual(documents.UUID, definition.uuid)
        self.assertIn('s3cret', definition.xml)
        self.assertNotIn('<alias', definition.xml)
        self.assertTrue(definition.autostart)

    def test_undefine_and_define(self) -> None:
        before = self.host.before()
        definition = self.guest.definition()
        self.guest.undefine()
        self.assertFalse(self.guest.persistent())
        self.assertTrue(self.machine.nvram and self.machine.tpm)
        self.guest.define(definition)
        self.assertEqual([], self.host.differences(before))

    def test_no_autostart_where_there_was_none(self) -> None:
        self.machine.autostart = False
        definition = self.guest.definition()
        self.guest.undefine()
        self.guest.define(definition)
        self.assertFalse(self.machine.autostart)

    def test_old_libvirt_knows_no_flag_for_the_tpm(self) -> None:
        self.host.connection.version = 8_008_000
        self.guest.undefine()
        self.assertFalse(self.guest.persistent())

    def test_define_after_the_guest_has_stopped(self) -> None:
        definition = self.guest.definition()
        self.guest.undefine()
        self.machine.stop()
        self.assertRaises(exception.DomainNotFound, self.guest.persistent)
        self.guest.define(definition)
        self.assertTrue(self.guest.persistent())


class SizesTest(GuestCase):
    def test_sizes(self) -> None:
        self.assertEqual(2048 << 20, self.guest.capacity(self.root()))

    def test_unknown_disk(self) -> None:
        disk = Disk('vdz', 'file', 'raw', '/x')
        self.assertRaises(exception.HypervisorError, self.guest.capacity, disk)


class FakeDomainTest(GuestCase):
    """The behaviour of the fake that the tests rely on."""

    def test_handles_of_a_gone_domain(self) -> None:
        self.machine.config = None
        self.machine.stop()
        self.assertRaises(exception.DomainNotFound, self.guest.describe)
        self.assertRaises(exception.DomainNotFound, self.guest.power.state)
        self.assertRaises(
            exception.DomainNotFound,
            Host(self.host.connection).guest,
            documents.UUID,
        )

    def test_guest_without_secrets_is_not_the_same(self) -> None:
        before = self.host.before()
        domain = FakeDomain(self.machine)
        public = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        self.machine.config = public
        (difference,) = self.host.differences(before)
        self.assertIn('passwd', difference)
        self.assertIsInstance(self.guest, Guest)
