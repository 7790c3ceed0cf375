# SPDX-License-Identifier: Apache-2.0
"""A QEMU that is stopped, as a compromised or a hung one may be."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt

from lab.bounded import run
from lab.bounded import wait_until
from lab.disks import Layer
from lab.options import GuestOptions
from nova_snapshot_driver import exception
from nova_snapshot_driver.common import background
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.hypervisor.libvirt_calls import CALLS
from nova_snapshot_driver.hypervisor.libvirt_calls import Answerer
from nova_snapshot_driver.snapshot.capture import silence
from nova_snapshot_driver.snapshot.plan.instance import Instance
from tests import laws
from tests.functional import base
from tests.functional import machine

#: The bound of each wait for QEMU and the guest, in seconds.
BOUND = 2

#: The options with these bounds.
BOUNDS: dict[str, Any] = dict.fromkeys(
    (
        'thaw_timeout',
        'qemu_timeout',
        'suspend_timeout',
        'job_abort_timeout',
    ),
    BOUND,
)

#: The seconds that a snapshot may take beyond that: an agent that does not
#: answer is asked to freeze and to thaw, and an undo is tried three times.
MORE = 3 * base.QUIESCE_TIMEOUT + 6

#: In which a guest whose QEMU goes on is as it was, in seconds.
HEALED = 40

#: The calls of each path that are looked at. Every call that QEMU answers in
#: that path is one of them, or comes in another one.
BACKUP = ('jobInfo', 'blockJobInfo', 'fsFreeze', 'backupBegin', 'fsThaw')
MIRROR = ('blockInfo', 'undefineFlags', 'blockRebase', 'blockJobAbort')
COLD = ('managedSave',)

#: The answerers that work whatever a guest's QEMU does.
BY_LIBVIRT = (Answerer.LIBVIRT, Answerer.LIBVIRT_PROBING)


def pid_of(name: str) -> int:
    """The QEMU of a domain."""
    for entry in Path('/proc').glob('[0-9]*/cmdline'):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().split(b'\0')
            if any(
                word.startswith(f'guest={name},'.encode()) for word in words
            ):
                return int(entry.parent.name)
    raise AssertionError(f'{name} has no QEMU')


class Stopped:
    """The QEMU of a domain, which may be stopped."""

    def __init__(self, name: str) -> None:
        self._pid = pid_of(name)

    def stop(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGCONT)


class SilentQemuTest(base.SnapshotTest):
    options = GuestOptions('silent')

    def setUp(self) -> None:
        super().setUp()
        self.qemu = Stopped(self.guest.name)
        self.addCleanup(self.qemu.go_on)
        self.before = laws.Before.of(self.connection, self.guest.name)
        self.uuid = self.guest.domain.UUIDString()

    def take(
        self,
        connection: Any,
        cancellation: Cancellation | None = None,
        **options: Any,
    ) -> exception.SnapshotError | None:
        """A snapshot; returns how it has failed."""
        image = self.output / 'image'
        image.unlink(missing_ok=True)
        try:
            self.driver(connection, **BOUNDS, **options).snapshot_to_file(
                Instance(self.guest.name),
                str(image),
                cancellation=cancellation,
            )
        except exception.SnapshotError as error:
            return error
        return None

    def is_healed(self) -> None:
        """The QEMU goes on, and nothing is left."""
        self.qemu.go_on()
        left: list[str] = ['-']

        def looked() -> bool:
            with contextlib.suppress(exception.SnapshotError):
                self.healer().heal_domain(self.uuid, self.guest.name, None)
            left[:] = self.broken_laws(self.before)
            return not left

        wait_until(looked, f'the guest to be healed: {left}', HEALED)
        self.guest.still_counts()

    def silent_at(self, path: str, call: str) -> None:
        began = time.monotonic()
        with self.meanwhile(call, self.qemu.stop) as connection:
            error = self.take(connection, method=path)
        took = time.monotonic() - began
        self.assertIsNotNone(error)
        self.assertLess(took, BOUND + MORE + 6, f'{call}: {error}')
        self.is_healed()

    def test_backup(self) -> None:
        for call in BACKUP:
            with self.subTest(call):
                self.silent_at('backup', call)

    def test_mirror(self) -> None:
        for call in MIRROR:
            with self.subTest(call):
                self.silent_at('mirror', call)

    def test_cold(self) -> None:
        for call in COLD:
            with self.subTest(call):
                self.silent_at('cold', call)

    def test_while_the_disk_is_read(self) -> None:
        """The data plane waits for the next byte, and for no call."""
        self.patch(silence, 'INTERVAL', 1.0)
        reading = threading.Event()
        failed = background.call(
            lambda: self.take_slowly(reading, Cancellation())
        )
        self.assertTrue(reading.wait(HEALED))
        self.qemu.stop()
        error = failed.result(BOUND + MORE)
        self.assertIn('jobInfo', str(error))
        self.is_healed()

    def test_cancelled(self) -> None:
        reading = threading.Event()
        cancellation = Cancellation()
        failed = background.call(
            lambda: self.take_slowly(reading, cancellation)
        )
        self.assertTrue(reading.wait(HEALED))
        self.qemu.stop()
        cancellation.request('SIGINT')
        self.assertIsInstance(
            failed.result(BOUND + MORE), exception.UndoFailed
        )
        self.is_healed()

    def take_slowly(
        self, reading: threading.Event, cancellation: Cancellation
    ) -> exception.SnapshotError | None:
        try:
            self.driver(bandwidth=4, **BOUNDS).snapshot_to_file(
                Instance(self.guest.name),
                str(self.output / 'image'),
                progress=lambda *_: reading.set(),
                cancellation=cancellation,
            )
        except exception.SnapshotError as error:
            return error
        return None

    def test_table(self) -> None:
        """Each answerer of the table answers, while QEMU does not."""
        domain = self.guest.domain
        definition = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        calls: dict[str, Callable[[], Any]] = {
            'agentSetResponseTimeout': lambda: domain.agentSetResponseTimeout(
                libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0
            ),
            'autostart': domain.autostart,
            'backupGetXMLDesc': domain.backupGetXMLDesc,
            'defineXML': lambda: self.connection.defineXML(definition),
            'getURI': self.connection.getURI,
            'hasManagedSaveImage': domain.hasManagedSaveImage,
            'isActive': domain.isActive,
            'isPersistent': domain.isPersistent,
            'jobInfo': domain.jobInfo,
            'listAllDomains': lambda: self.connection.listAllDomains(
                libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
            ),
            'lookupByName': lambda: self.connection.lookupByName(
                self.guest.name
            ),
            'lookupByUUIDString': lambda: self.connection.lookupByUUIDString(
                self.uuid
            ),
            'managedSaveRemove': domain.managedSaveRemove,
            'setAutostart': lambda: domain.setAutostart(True),
            'state': domain.state,
            'undefineFlags': lambda: domain.undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
            ),
            'XMLDesc': domain.XMLDesc,
        }
        self.qemu.stop()
        # A call that waits for QEMU holds what other calls wait for.
        holding = background.call(lambda: domain.blockInfo('vda'))
        time.sleep(0.5)
        self.assertFalse(holding.done())
        answers = {name: background.call(call) for name, call in calls.items()}
        time.sleep(1)
        self.assertEqual(
            {name for name in calls if CALLS[name].answered_by in BY_LIBVIRT},
            {name for name, answer in answers.items() if answer.done()},
        )
        self.qemu.go_on()
        for answer in [holding, *answers.values()]:
            answer.exception(HEALED)
        self.connection.defineXML(self.before.definition)
        domain.setAutostart(self.before.autostart)


class FiveTest(base.HostTest):
    """As many as nova-compute snapshots at a time."""

    @contextlib.contextmanager
    def guests(self, count: int) -> Iterator[list[str]]:
        names = [f'silent-{number}' for number in range(count)]
        domains: list[libvirt.virDomain] = []
        try:
            for name in names:
                disk = Layer(self.directory / name, 'qcow2')
                run(
                    ['qemu-img', 'create', '-qf', 'qcow2', disk.path, '64M'],
                    timeout=60,
                )
                domains.append(
                    self.connection.createXML(machine.machine_xml(name, disk))
                )
            yield names
        finally:
            # Each takes some seconds.
            for end in [background.call(d.destroy) for d in domains]:
                end.result(HEALED)

    def take(self, connection: Any, name: str) -> object:
        try:
            return self.driver(
                connection, scratch_reserve=1, **BOUNDS
            ).snapshot_to_file(Instance(name), str(self.output / name))
        except exception.SnapshotError as error:
            return error

    def test_others_go_on(self) -> None:
        with self.guests(6) as names, contextlib.ExitStack() as stack:
            *silent, other = names
            states = [laws.Before.of(self.connection, n) for n in names]
            qemus = [Stopped(name) for name in silent]
            connections = []
            for qemu in qemus:
                stack.callback(qemu.go_on)
                connections.append(
                    stack.enter_context(
                        self.meanwhile('backupBegin', qemu.stop)
                    )
                )
            began = time.monotonic()
            taken = [
                background.call(lambda c=c, name=name: self.take(c, name))  # type: ignore[misc]
                for c, name in zip(connections, silent, strict=True)
            ]
            futures_done = [each.result(BOUND + MORE + 10) for each in taken]
            for error in futures_done:
                self.assertIsInstance(error, exception.UndoFailed)
            self.assertNotIsInstance(
                self.take(self.connection, other), exception.SnapshotError
            )
            self.assertLess(time.monotonic() - began, BOUND + MORE + 15)
            for qemu in qemus:
                qemu.go_on()
            for before in states:
                wait_until(
                    lambda before=before: self._is_healed(before),  # type: ignore[misc]
                    f'{before.name} to be healed',
                    HEALED,
                )
        self.assertEqual([f'{other}'], os.listdir(self.output))

    def _is_healed(self, before: laws.Before) -> bool:
        with contextlib.suppress(exception.SnapshotError):
            self.healer().heal_domain(before.uuid, before.name, None)
        left = laws.differences(
            self.connection,
            before,
            laws.Directories(str(self.snapshots), ''),
            lambda _domain: None,
        )
        return (
            not [each for each in left if before.uuid in each]
            and not (self.state / f'{before.uuid}.json').exists()
        )
