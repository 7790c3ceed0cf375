# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import fixtures
import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor import host as host_module
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.host import Host
from tests.faults import libvirt_error
from tests.unit import documents
from tests.unit.fake_libvirt import FakeConnection
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.host import NoWaiting


class HostTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.connection = FakeConnection()
        self.connection.add(documents.inactive(''))
        self.host = Host(self.connection)

    def test_by_name_and_by_uuid(self) -> None:
        for name in (documents.NAME, documents.UUID):
            guest = self.host.guest(name)
            self.assertEqual(documents.NAME, guest.name)
            self.assertEqual(documents.UUID, guest.uuid)

    def test_name_that_looks_like_a_uuid(self) -> None:
        name = '11111111-1111-4111-8111-111111111111'
        other = '22222222-2222-4222-8222-222222222222'
        self.connection.add(documents.inactive('', name=name, uuid=other))
        self.assertEqual(other, self.host.guest(name).uuid)

    def test_unknown(self) -> None:
        for name in ('web-9', '11111111-1111-4111-8111-111111111111'):
            error = self.assertRaises(
                exception.DomainNotFound, self.host.guest, name
            )
            self.assertIn(name, str(error))

    def test_no_utf8(self) -> None:
        """As an argument of a shell may be; libvirt's bindings refuse it."""
        with Host.open('test:///default') as host:
            self.assertRaises(exception.DomainNotFound, host.guest, 'w\udcff')

    def test_libvirtd_is_restarted(self) -> None:
        """The call under way fails; the next call reaches the new libvirtd."""
        guest = self.guest_after(self.connection.restart)
        self.assertFalse(guest.is_active())

    def test_libvirtd_takes_its_time_to_be_restarted(self) -> None:
        self.useFixture(NoWaiting())
        absent = [exception.ConnectionFailed(uri='qemu:///system', reason='-')]

        def reconnect() -> FakeConnection:
            if absent:
                raise absent.pop()
            return self.connection.restart()

        self.assertFalse(self.guest_after(reconnect).is_active())

    def test_libvirtd_is_gone(self) -> None:
        """The error is that of the call, not that of the search."""
        self.useFixture(
            fixtures.MockPatchObject(host_module, 'RESTART_TIMEOUT', 0)
        )

        def reconnect() -> FakeConnection:
            raise exception.ConnectionFailed(uri='qemu:///system', reason='-')

        guest = self.guest_after(reconnect)
        self.assertRaises(exception.HypervisorError, guest.is_active)

    def test_domain_has_not_outlived_libvirtd(self) -> None:
        def reconnect() -> FakeConnection:
            self.connection.machines.clear()
            return self.connection.restart()

        guest = Host(self.connection, reconnect).guest(documents.NAME)
        self.connection.alive = False
        self.assertRaises(exception.DomainNotFound, guest.is_active)

    def guest_after(self, reconnect: Callable[[], FakeConnection]) -> Guest:
        """A guest whose first call has met a libvirtd that has died."""
        guest = Host(self.connection, reconnect).guest(documents.NAME)
        self.connection.alive = False
        error = self.assertRaises(exception.HypervisorError, guest.is_active)
        self.assertIn('client socket is closed', str(error))
        return guest

    def test_lookup_that_fails_is_no_missing_domain(self) -> None:
        def broken(_name: str) -> FakeDomain:
            raise libvirt_error(libvirt.VIR_ERR_RPC, 'end of file')

        self.useFixture(
            fixtures.MockPatchObject(self.connection, 'lookupByName', broken)
        )
        error = self.assertRaises(
            exception.HypervisorError, self.host.guest, documents.NAME
        )
        self.assertIn('end of file', str(error))

    def test_versions(self) -> None:
        self.assertEqual(9_000_000, self.host.libvirt_version())
        self.assertEqual(7_002_022, self.host.qemu_version())

    def test_open(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(host_module, '_run_event_loop')
        )
        opened = self.useFixture(
            fixtures.MockPatch('libvirt.open', return_value=self.connection)
        ).mock
        with Host.open('') as host:
            self.assertEqual(documents.NAME, host.guest(documents.NAME).name)
            self.assertFalse(self.connection.closed)
        self.assertTrue(self.connection.closed)
        self.assertEqual(mock.call('qemu:///system'), opened.call_args)

    def test_open_fails(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(host_module, '_run_event_loop')
        )
        refused = libvirt_error(
            libvirt.VIR_ERR_SYSTEM_ERROR,
            "Failed to connect socket to '/run/libvirt/libvirt-sock'",
        )
        self.useFixture(
            fixtures.MockPatch('libvirt.open', side_effect=refused)
        )
        with (
            testtools.ExpectedException(
                exception.ConnectionFailed, '.*qemu:///x.*libvirt-sock.*'
            ),
            Host.open('qemu:///x'),
        ):
            pass
