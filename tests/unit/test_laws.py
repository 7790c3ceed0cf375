# SPDX-License-Identifier: Apache-2.0
"""The judges are judged: each break of a law is seen."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import ddt
import libvirt
import testtools

from tests import faults
from tests.faults import Fault
from tests.faults import Interposer
from tests.faults import Kind
from tests.unit import documents
from tests.unit import tables
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.fake_libvirt import Machine
from tests.unit.host import DEVICES
from tests.unit.host import FakeHost


def _gone(machine: Machine) -> None:
    machine.config = None
    machine.stop()


def _transient(machine: Machine) -> None:
    machine.config = None


def _other_definition(machine: Machine) -> None:
    assert machine.config is not None
    machine.config = machine.config.replace('2097152', '1048576')


def _autostart(machine: Machine) -> None:
    machine.autostart = False


def _paused(machine: Machine) -> None:
    machine.state = libvirt.VIR_DOMAIN_PAUSED


def _saved(machine: Machine) -> None:
    machine.remove_device('hostdev0')
    FakeDomain(machine).managedSave(0)


def _device(machine: Machine) -> None:
    machine.remove_device('hostdev0')


def _job(machine: Machine) -> None:
    FakeDomain(machine).begin_copy('vdb', None)


def _mirror(machine: Machine) -> None:
    FakeDomain(machine).begin_copy('vda', '/delta')


def _frozen(machine: Machine) -> None:
    machine.frozen = True


@ddt.ddt
class DomainTest(testtools.TestCase):
    @tables.rows(
        {
            'gone': (_gone, 'the domain is gone'),
            'transient': (_transient, 'was persistent, and is transient'),
            'definition': (_other_definition, '+  <memory unit="KiB">1048576'),
            'autostart': (_autostart, 'autostart was True, and is False'),
            'state': (_paused, 'state was running, and is paused'),
            'saved': (_saved, 'saved was False, and is True'),
            'device': (_device, 'the guest had 1 of'),
            'job': (_job, 'vdb has a block job'),
            'mirror': (_mirror, 'vda has a mirror'),
            'frozen': (_frozen, 'are frozen'),
        }
    )
    def test_difference(
        self, spoil: Callable[[Machine], None], expected: str
    ) -> None:
        host = self.useFixture(FakeHost(DEVICES + documents.PCI_DEVICE))
        before = host.before()
        self.assertEqual([], host.differences(before))
        spoil(host.machine)
        self.assertIn(expected, '\n'.join(host.differences(before)))

    def test_transient_domain_that_is_persistent_now(self) -> None:
        host = self.useFixture(FakeHost())
        definition = host.guest().definition()
        host.guest().undefine()
        before = host.before()
        self.assertEqual([], host.differences(before))
        host.guest().define(definition)
        self.assertIn(
            'it was transient, and is persistent', host.differences(before)
        )

    def test_writing_of_a_definition_does_not_matter(self) -> None:
        host = self.useFixture(FakeHost())
        before = host.before()
        assert host.machine.config is not None
        host.machine.config = host.machine.config.replace('    <', '<')
        self.assertEqual([], host.differences(before))


class DirectoriesTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.before = self.host.before()

    def touch(self, *path: str | None) -> None:
        file = pathlib.Path(*(part for part in path if part))
        file.parent.mkdir(exist_ok=True)
        file.touch()

    def test_locks_may_stay(self) -> None:
        self.touch(self.host.directories.state, f'{documents.UUID}.lock')
        self.assertEqual([], self.host.differences(self.before))

    def test_what_is_left(self) -> None:
        self.touch(self.host.directories.state, f'{documents.UUID}.json')
        self.touch(self.host.directories.state, 'tmpx1y2z3')
        self.touch(self.host.directories.snapshots, 'delta')
        self.touch(self.host.directories.output, 'image.0123.part')
        self.touch(self.host.directories.output, 'image')
        self.assertEqual(
            [
                'in the snapshots directory: delta',
                f'in the state directory: {documents.UUID}.json',
                'in the state directory: tmpx1y2z3',
                'beside the output: image.0123.part',
            ],
            self.host.differences(self.before),
        )
        self.assertIn('image', os.listdir(self.host.root))


class FaultsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.machine = self.host.machine

    def undefine(self, connection: object) -> None:
        domain = connection.lookupByName(documents.NAME)  # type: ignore[attr-defined]
        domain.connect().getLibVersion()
        domain.isActive()
        domain.isActive()
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)

    def steps(self) -> list[faults.Step]:
        steps = faults.record(self.host.connection, self.undefine)
        self.machine.config = documents.inactive(DEVICES)
        return steps

    def test_record(self) -> None:
        steps = self.steps()
        self.assertEqual(
            [
                'lookupByName_1',
                'getLibVersion_1',
                'isActive_1',
                'isActive_2',
                'undefineFlags_1',
            ],
            [str(step) for step in steps],
        )
        self.assertEqual([1, 2, 3, 4, 5], [step.number for step in steps])
        self.assertEqual(
            [1, 2, 3, 5], [s.number for s in faults.without_polls(steps, 1)]
        )
        self.assertEqual(20, len(list(faults.every_fault(steps))))

    def strike(self, kind: Kind) -> Interposer:
        fault = Fault(self.steps()[-1], kind)
        return Interposer(self.host.connection, fault, self.machine.stop)

    def test_refused(self) -> None:
        with self.strike(Kind.REFUSED) as interposer:
            error = self.assertRaises(
                libvirt.libvirtError, self.undefine, interposer.connection
            )
        self.assertEqual(
            libvirt.VIR_ERR_OPERATION_TIMEOUT, error.get_error_code()
        )
        self.assertIsNotNone(self.machine.config)

    def test_lost(self) -> None:
        with self.strike(Kind.LOST) as interposer:
            error = self.assertRaises(
                libvirt.libvirtError, self.undefine, interposer.connection
            )
        self.assertIn('client socket is closed', str(error))
        self.assertIsNone(self.machine.config)

    def test_meanwhile(self) -> None:
        with self.strike(Kind.MEANWHILE) as interposer:
            self.undefine(interposer.connection)
        self.assertFalse(self.machine.active)
        self.assertIsNone(self.machine.config)

    def test_fault_that_never_came_about(self) -> None:
        interposer = self.strike(Kind.REFUSED)
        self.assertRaises(
            AssertionError, interposer.__exit__, None, None, None
        )

    def test_libvirt_gets_its_own_objects(self) -> None:
        connection = Interposer(self.host.connection).connection
        domain = connection.lookupByName(documents.NAME)
        listener = connection.domainEventRegisterAny(
            domain,
            libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
            lambda *_event: None,
            None,
        )
        self.assertIn(listener, self.host.connection.listeners)
