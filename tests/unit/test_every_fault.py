# SPDX-License-Identifier: Apache-2.0
"""Every step of a snapshot goes wrong once, and the laws hold after it.

The steps are those of a run that is well, recorded when this module is
imported, and drawn by lot. There is no exception to a law.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import ddt
import fixtures
import libvirt

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.journal import Journal
from tests import exhaustive
from tests import faults
from tests import laws
from tests.faults import Kind
from tests.unit import documents
from tests.unit import tables
from tests.unit.entries import taken
from tests.unit.fake_glance import broken
from tests.unit.fake_glance import unavailable
from tests.unit.host import FakeHost
from tests.unit.judged import JudgedCase
from tests.unit.judged import every_fault
from tests.unit.ways import COLD
from tests.unit.ways import CONVERTED
from tests.unit.ways import LIVE
from tests.unit.ways import MORE_WAYS
from tests.unit.ways import STREAMED
from tests.unit.ways import WAYS
from tests.unit.ways import Way


class Failure(Exception):
    """Something that nobody has foreseen."""


class Case(JudgedCase):
    def is_deleted_later(self, host: FakeHost, before: laws.Before) -> None:
        """The journal knows of it until it is gone."""
        self.assertEqual(
            [f'in the state directory: {documents.UUID}.json'],
            host.differences(before),
        )
        host.context.troubles = {}
        host.glance.troubles = {}
        host.healer().heal(host.context)
        self.assertEqual({}, host.glance.images)
        self.assertEqual([], host.differences(before))


class FaultCase(Case):
    """A call to libvirt fails, with and without its effect."""

    def strike(self, way: Way, fault: faults.Fault) -> None:
        host = self.on(way)
        before = host.before()
        with faults.Interposer(host.connection, fault) as interposer:
            self.judge(
                host, before, lambda: host.snapshot(interposer.connection)
            )


@ddt.ddt
class LiveTest(FaultCase):
    @tables.rows(
        exhaustive.drawn(every_fault(LIVE, (Kind.REFUSED, Kind.LOST)))
    )
    def test_fault(self, way: Way, fault: faults.Fault) -> None:
        self.strike(way, fault)


@ddt.ddt
class ColdTest(FaultCase):
    @tables.rows(
        exhaustive.drawn(every_fault(COLD, (Kind.REFUSED, Kind.LOST)))
    )
    def test_fault(self, way: Way, fault: faults.Fault) -> None:
        self.strike(way, fault)


@ddt.ddt
class MoreWaysTest(FaultCase):
    @tables.rows(
        exhaustive.drawn(every_fault(MORE_WAYS, (Kind.REFUSED, Kind.LOST)))
    )
    def test_fault(self, way: Way, fault: faults.Fault) -> None:
        self.strike(way, fault)


@ddt.ddt
class CancelledTest(Case):
    @tables.rows(exhaustive.drawn(every_fault(WAYS, (Kind.MEANWHILE,))))
    def test_cancelled(self, way: Way, fault: faults.Fault) -> None:
        host = self.on(way)
        before = host.before()
        cancellation = Cancellation()
        with faults.Interposer(
            host.connection, fault, lambda: cancellation.request('SIGTERM')
        ) as interposer:
            error = self.judge(
                host,
                before,
                lambda: host.snapshot(interposer.connection, cancellation),
            )
        # The data plane listens all the time, so nothing comes too late.
        self.assertIsInstance(error, exception.Cancelled)


@ddt.ddt
class GuestDiesTest(Case):
    """A domain that is transient is gone with its guest."""

    @tables.rows(exhaustive.drawn(every_fault(LIVE, (Kind.MEANWHILE,))))
    def test_guest_dies(self, way: Way, fault: faults.Fault) -> None:
        host = self.on(way)
        before = dataclasses.replace(host.before(), state='shut off')
        with faults.Interposer(
            host.connection, fault, host.machine.stop
        ) as interposer:
            self.judge(
                host, before, lambda: host.snapshot(interposer.connection)
            )


def _every_undo() -> dict[str, tuple[Way, bool, faults.Fault]]:
    """Every step after the one at which a snapshot is known to fail."""
    table = {}
    for name, way in (WAYS | MORE_WAYS).items():
        for cancelled in (False, True):
            if cancelled and name not in LIVE:
                continue
            for fault in faults.every_fault(
                _steps_of_undo(way, cancelled), (Kind.REFUSED, Kind.LOST)
            ):
                how = 'cancelled' if cancelled else 'failed'
                table[f'{name}_{how}_{fault}'] = (way, cancelled, fault)
    return table


def _failing(
    host: FakeHost,
    connection: Any,
    cancelled: bool,
    at_failure: Callable[[], object] = lambda: None,
) -> Callable[[], object]:
    """A snapshot that fails: in the copy of the disk, or after it."""
    cancellation = Cancellation()

    def cancel(step: str, done: int, total: int) -> None:
        if cancelled and not done:
            at_failure()
            cancellation.request('SIGINT')

    def fail() -> None:
        at_failure()
        raise exception.CommandFailed(
            command='qemu-img convert', status=1, reason='Input/output error'
        )

    host.data_plane.at_extract = fail
    return lambda: host.snapshot(connection, cancellation, progress=cancel)


def _steps_of_undo(way: Way, cancelled: bool) -> list[faults.Step]:
    with way.host() as host:
        way.prepare(host)
        interposer = faults.Interposer(host.connection)
        known: list[int] = []
        with contextlib.suppress(exception.SnapshotError):
            _failing(
                host,
                interposer.connection,
                cancelled,
                lambda: known.append(len(interposer.steps)),
            )()
        return interposer.steps[known[0] :]


class SlowMachineTest(Case):
    """A table of faults does not depend on the time that its runs took."""

    def test_same_steps(self) -> None:
        steps = _steps_of_undo(LIVE['backup'], cancelled=False)
        now, lost = time.monotonic, itertools.count()
        with fixtures.MockPatchObject(
            time, 'monotonic', lambda: now() + next(lost) / 100
        ):
            again = _steps_of_undo(LIVE['backup'], cancelled=False)
        self.assertEqual(steps, again)


@ddt.ddt
class UndoTest(Case):
    """The snapshot has failed, and then a call to libvirt fails too."""

    @tables.rows(exhaustive.drawn(_every_undo()))
    def test_fault(
        self, way: Way, cancelled: bool, fault: faults.Fault
    ) -> None:
        host = self.on(way)
        before = host.before()
        with faults.Interposer(host.connection, fault) as interposer:
            error = self.judge(
                host, before, _failing(host, interposer.connection, cancelled)
            )
        self.assertIsNotNone(error)


@ddt.ddt
class DataPlaneTest(Case):
    """The data plane fails, or is cancelled."""

    def die(self) -> None:
        raise exception.TransferDied(
            job='extract', status='exit status -9', reason=''
        )

    @tables.rows({name: (way,) for name, way in WAYS.items()})
    def test_extract(self, way: Way) -> None:
        host = self.on(way)
        before = host.before()
        host.data_plane.at_extract = self.die
        error = self.judge(host, before, host.snapshot)
        self.assertIsInstance(error, exception.TransferDied)

    @tables.rows({name: (way,) for name, way in WAYS.items()})
    def test_extract_fails_unforeseen(self, way: Way) -> None:
        host = self.on(way)
        before = host.before()

        def fail() -> None:
            raise Failure

        host.data_plane.at_extract = fail
        self.assertRaises(Failure, host.snapshot)
        self.assertEqual([], host.differences(before))
        self.assertNotIn(host.image, host.glance.images)

    @tables.rows({name: (way,) for name, way in WAYS.items()})
    def test_upload(self, way: Way) -> None:
        host = self.on(way)
        before = host.before()
        host.data_plane.at_upload = self.die
        error = self.judge(host, before, host.snapshot)
        self.assertIsInstance(error, exception.TransferDied)

    @tables.rows({name: (way,) for name, way in CONVERTED.items()})
    def test_guest_is_as_it_was_when_the_upload_begins(self, way: Way) -> None:
        host = self.on(way)
        before = host.before()
        found: list[list[str]] = []
        entries: list[Entry] = []

        def look() -> None:
            entries.extend(Journal(host.directories.state).entries().found)
            # The temporary files are all that is left of the snapshot.
            found.append(
                [
                    difference
                    for difference in host.differences(before)
                    if not difference.startswith('in the snapshots directory')
                ]
            )

        host.data_plane.at_upload = look
        host.snapshot()
        # And the image, in case that nobody lives to delete it.
        self.assertEqual(
            [
                [
                    f'in the state directory: {documents.UUID}.json',
                    f'in the state directory: {documents.UUID}.status',
                ]
            ],
            found,
        )
        (entry,) = entries
        self.assertEqual(
            taken(
                host.guest().definition(),
                persistent=False,
                image=host.image,
                project=documents.PROJECT,
                directories=(host.directories.snapshots,),
            ),
            entry,
        )


@ddt.ddt
class TaskStateTest(Case):
    """Nova does not want the snapshot any more: the instance is deleted."""

    @tables.rows(
        {
            f'{name}_{call}': (way, call)
            for name, way in WAYS.items()
            for call in (1, 2)
        }
    )
    def test_refused(self, way: Way, call: int) -> None:
        host = self.on(way)
        before = host.before()

        def update_task_state(**states: Any) -> None:
            host.update_task_state(**states)
            if len(host.task_states) == call:
                raise Failure

        # Nova knows its own errors, and is to get them as they are.
        self.assertRaises(
            Failure, host.snapshot, update_task_state=update_task_state
        )
        self.assertEqual([], host.differences(before))
        self.assertNotIn(host.image, host.glance.images)
        self.assertEqual(call, len(host.task_states))


class FailingSync(fixtures.Fixture):
    """A failure in one of the calls that sync the journal.

    :param number: of the call, from 1 on; 0 for none
    :ivar calls: how many there were
    """

    def __init__(self, number: int = 0) -> None:
        super().__init__()
        self._number = number
        self.calls = 0

    def _setUp(self) -> None:
        self._fsync = os.fsync
        self.useFixture(fixtures.MockPatchObject(os, 'fsync', self.fsync))

    def fsync(self, descriptor: int) -> None:
        self.calls += 1
        if self.calls == self._number:
            raise OSError(errno.EIO, 'Input/output error')
        self._fsync(descriptor)


def _every_sync() -> dict[str, tuple[Way, int]]:
    table = {}
    for name, way in WAYS.items():
        with way.host() as host, FailingSync() as sync:
            way.prepare(host)
            host.snapshot()
            for number in range(1, sync.calls + 1):
                table[f'{name}_{number}'] = (way, number)
    return table


@ddt.ddt
class JournalTest(Case):
    """The journal can't be written."""

    @tables.rows(_every_sync())
    def test_not_synced(self, way: Way, number: int) -> None:
        host = self.on(way)
        before = host.before()
        self.useFixture(FailingSync(number))
        error = self.judge(host, before, host.snapshot)
        self.assertIsInstance(error, exception.DirectoryUnusable)


#: The calls that change something about a guest.
CHANGES = frozenset(
    {
        'attachDeviceFlags',
        'blockJobAbort',
        'blockRebase',
        'createWithFlags',
        'defineXML',
        'detachDeviceAlias',
        'fsFreeze',
        'fsThaw',
        'managedSave',
        'resume',
        'setAutostart',
        'undefineFlags',
    }
)


@ddt.ddt
class SurroundingsTest(Case):
    """A host that bears some operations on disks at a time."""

    def changes(self, host: FakeHost) -> list[tuple[str, bool]]:
        """Snapshot it: all changes, and whether the host had agreed."""
        seen = []

        class Watch(faults.Interposer):
            def call(
                self, method: Callable[..., Any], name: str, *args: Any
            ) -> Any:
                if name in CHANGES:
                    seen.append((name, host.environment.inside))
                return super().call(method, name, *args)

        with Watch(host.connection) as interposer:
            host.snapshot(interposer.connection)
        return seen

    @tables.rows({name: (way,) for name, way in CONVERTED.items()})
    def test_guest_is_changed_while_the_host_agrees(self, way: Way) -> None:
        host = self.on(way)
        before = host.before()
        inside = []
        for name in ('at_extract', 'at_upload'):
            setattr(
                host.data_plane,
                name,
                lambda: inside.append(host.environment.inside),
            )
        host.environment.at_end = lambda: self.assertEqual(
            before, host.before()
        )
        changes = self.changes(host)
        self.assertEqual([], [name for name, agreed in changes if not agreed])
        self.assertEqual(
            way.state != libvirt.VIR_DOMAIN_SHUTOFF, bool(changes)
        )
        # The disk is read inside too. The upload is a matter of the network.
        self.assertEqual([True, False], inside)
        self.assertEqual(1, host.environment.operations)

    @tables.rows({name: (way,) for name, way in STREAMED.items()})
    def test_stream_takes_no_room_from_others(self, way: Way) -> None:
        """A stream is as slow as the network, and takes no slot."""
        host = self.on(way)
        host.environment.is_busy = True
        host.snapshot()
        self.assertEqual(0, host.environment.operations)

    @tables.rows({name: (way,) for name, way in CONVERTED.items()})
    def test_busy(self, way: Way) -> None:
        host = self.on(way)
        before = host.before()
        host.environment.is_busy = True
        host.environment.at_begin = lambda: self.assertEqual(
            before, host.before()
        )
        with faults.Interposer(host.connection) as interposer:
            error = self.judge(
                host, before, lambda: host.snapshot(interposer.connection)
            )
        self.assertIsInstance(error, exception.HostBusy)
        self.assertEqual(
            [], [step for step in interposer.steps if step.call in CHANGES]
        )
        self.assertIsNone(host.data_plane.view)

    @tables.rows({name: (way,) for name, way in LIVE.items()})
    def test_claim_fails(self, way: Way) -> None:
        host = self.on(way)
        before = host.before()

        def fail(_path: str) -> None:
            raise Failure

        host.environment.at_claim = fail
        self.assertRaises(Failure, host.snapshot)
        self.assertEqual([], host.differences(before))
        self.assertNotIn(host.image, host.glance.images)


def _every_access() -> dict[str, tuple[int]]:
    with FakeHost() as host:
        host.snapshot()
        return {f'{n}': (n,) for n in range(1, host.context.accesses + 1)}


@ddt.ddt
class AccessTest(Case):
    """Keystone is away for a moment."""

    ERROR = exception.KeystoneUnavailable(reason='connection refused')

    @tables.rows(_every_access())
    def test_no_access(self, number: int) -> None:
        host = self.on(Way())
        before = host.before()
        host.context.troubles[number] = self.ERROR
        error = self.judge(host, before, host.snapshot)
        self.assertIsInstance(error, exception.KeystoneUnavailable)

    def test_image_that_can_not_be_deleted_is_named(self) -> None:
        host = self.on(Way())
        before = host.before()

        def lose_keystone() -> None:
            host.context.troubles = dict.fromkeys(range(1, 50), self.ERROR)

        error = self.assertRaises(
            exception.ImageLeftBehind,
            _failing(host, host.connection, False, lose_keystone),
        )
        self.assertEqual(host.image, error.fields['image'])
        self.assertIn('connection refused', error.fields['reason'])
        self.is_deleted_later(host, before)


def _every_request(fail: bool) -> dict[str, tuple[int]]:
    """Every request to Glance of a snapshot, well or failing."""
    with FakeHost() as host:
        with contextlib.suppress(exception.SnapshotError):
            if fail:
                _failing(host, host.connection, False)()
            else:
                host.snapshot()
        return {
            f'{request.method}_{number}': (number,)
            for number, request in enumerate(host.glance.requests, 1)
            if request.method != 'PUT'
        }


@ddt.ddt
class GlanceTest(Case):
    """Glance fails at one request, before and after it has done it."""

    @tables.rows(_every_request(fail=False))
    def test_unavailable(self, number: int) -> None:
        host = self.on(Way())
        before = host.before()
        host.glance.troubles[number] = unavailable
        self.judge(host, before, host.snapshot)

    @tables.rows(_every_request(fail=False))
    def test_connection_breaks(self, number: int) -> None:
        host = self.on(Way())
        before = host.before()
        host.glance.late_troubles[number] = broken
        self.judge(host, before, host.snapshot)

    @tables.rows(_every_request(fail=True))
    def test_unavailable_after_a_failure(self, number: int) -> None:
        host = self.on(Way())
        before = host.before()
        host.glance.troubles[number] = unavailable
        run = _failing(host, host.connection, False)
        self.assertIsNotNone(self.judge(host, before, run))

    @tables.rows(_every_request(fail=True))
    def test_connection_breaks_after_a_failure(self, number: int) -> None:
        host = self.on(Way())
        before = host.before()
        host.glance.late_troubles[number] = broken
        run = _failing(host, host.connection, False)
        self.assertIsNotNone(self.judge(host, before, run))

    def test_image_that_can_not_be_deleted_is_named(self) -> None:
        host = self.on(Way())
        before = host.before()
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.clients.glance.DELETE_TIMEOUT', 0
            )
        )

        def lose_glance() -> None:
            host.glance.troubles = dict.fromkeys(range(1, 50), unavailable)

        error = self.assertRaises(
            exception.ImageLeftBehind,
            _failing(host, host.connection, False, lose_glance),
        )
        self.assertEqual(host.image, error.fields['image'])
        self.assertIn('Input/output error', error.fields['cause'])
        self.is_deleted_later(host, before)
