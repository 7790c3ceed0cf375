# SPDX-License-Identifier: Apache-2.0
"""Each option that bounds a wait bounds that one, and its error names it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import ddt
import fixtures
import libvirt
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor.libvirt_calls import BESIDE_TIMEOUT
from nova_snapshot_driver.hypervisor.libvirt_calls import Bound
from nova_snapshot_driver.hypervisor.libvirt_objects import Patience
from tests.unit import documents
from tests.unit import tables
from tests.unit.fake_libvirt import Agent
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.host import DEVICES
from tests.unit.host import GUEST_WAITS
from tests.unit.host import FakeHost

#: The seconds of every other option: the test is at fault after them.
FOR_EVER = 3600


def save_hangs(host: FakeHost) -> None:
    host.set('snapshot', 'method', 'cold')
    host.machine.save_is_held = threading.Event()


def device_stays(host: FakeHost) -> None:
    host.set('snapshot', 'method', 'cold')
    host.machine.releases = None


def copy_takes_long(host: FakeHost) -> None:
    host.set('snapshot', 'method', 'mirror')
    host.machine.polls_until_ready = 1_000_000


def copy_does_not_end(host: FakeHost) -> None:
    host.set('snapshot', 'method', 'mirror')
    host.useFixture(fixtures.MockPatchObject(FakeDomain, 'blockJobAbort'))


def qemu_hangs(host: FakeHost) -> None:
    goes_on = threading.Event()
    host.addCleanup(goes_on.set)
    host.useFixture(
        fixtures.MockPatchObject(
            FakeDomain, 'backupBegin', lambda *_: goes_on.wait(FOR_EVER)
        )
    )


def thaw_fails(host: FakeHost) -> None:
    host.useFixture(
        fixtures.MockPatchObject(
            FakeDomain, 'fsThaw', side_effect=libvirt.libvirtError('no')
        )
    )


@ddt.ddt
class BoundsTest(testtools.TestCase):
    @tables.rows(
        {
            'suspend_timeout': (save_hangs,),
            'device_detach_timeout': (device_stays,),
            'mirror_timeout': (copy_takes_long,),
            'job_abort_timeout': (copy_does_not_end,),
            'qemu_timeout': (qemu_hangs,),
            'thaw_timeout': (thaw_fails,),
        }
    )
    def test_error_names_the_option(
        self, prepare: Callable[[FakeHost], None]
    ) -> None:
        name = self.id().rpartition('_the_option_')[2].partition('_')[2]
        host = self.useFixture(
            FakeHost(DEVICES + documents.PCI_DEVICE, Agent.ANSWERS)
        )
        for option in (*GUEST_WAITS, 'mirror_timeout'):
            host.set('snapshot', option, FOR_EVER)
        host.set('snapshot', name, 1)
        prepare(host)
        error = self.assertRaises(exception.SnapshotError, host.snapshot)
        self.assertIn(f'option [snapshot] {name})', str(error))

    def test_limit_that_no_option_changes(self) -> None:
        """An option is named only where it makes the difference."""
        patience = Patience(qemu_timeout=300)
        for bound, option in {
            Bound.QEMU_TIMEOUT: 'qemu_timeout',
            Bound.AGENT: 'qemu_timeout',
            Bound.LIBVIRT_TIMEOUT: None,
            Bound.BESIDE_TIMEOUT: None,
        }.items():
            self.assertEqual(option, patience.with_(bound).option)
        short = Patience(qemu_timeout=BESIDE_TIMEOUT - 1)
        for bound in (Bound.LIBVIRT_TIMEOUT, Bound.BESIDE_TIMEOUT):
            self.assertEqual('qemu_timeout', short.with_(bound).option)
            self.assertEqual(short.qemu_timeout, short.with_(bound).seconds)

    def test_options_in_messages_are_there(self) -> None:
        options = {option.dest for option in conf.snapshot_opts}
        named = {
            option
            for error in vars(exception).values()
            if hasattr(error, 'template')
            for option in re.findall(r'\[snapshot\] (\w+)', error.template)
        }
        self.assertIn('device_detach_timeout', named)
        self.assertEqual(set(), named - options)
