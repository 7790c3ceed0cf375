# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import types
from collections.abc import Callable
from concurrent import futures
from typing import Any

import ddt
import fixtures
import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import qemu_img
from nova_snapshot_driver.common import background
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.recovery import healer as healer_module
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.request import IMAGE_PENDING_UPLOAD
from nova_snapshot_driver.snapshot.request import IMAGE_UPLOADING
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings.draft import Draft
from nova_snapshot_driver.takings.freeze import Freeze
from nova_snapshot_driver.takings.jobs import BlockJob
from nova_snapshot_driver.takings.undefine import Undefine
from nova_snapshot_driver.transfer.data_plane import Limits
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from tests import faults
from tests import laws
from tests.unit import documents
from tests.unit import tables
from tests.unit.entries import image_of
from tests.unit.entries import taken
from tests.unit.fake_data_plane import CONTENT
from tests.unit.fake_glance import unavailable
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.fake_libvirt import Machine
from tests.unit.host import DEVICES
from tests.unit.host import TIMEOUT
from tests.unit.host import FakeHost


class DriverCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.before = self.host.before()

    @property
    def journal(self) -> Journal:
        return Journal(self.host.directories.state)


class HeardTest(DriverCase):
    """The calls by which a service counts its snapshots."""

    def test_path(self) -> None:
        self.host.snapshot()
        self.assertEqual(['backup'], self.host.environment.methods)
        self.assertEqual(0, self.host.environment.heals)

    def test_path_that_was_refused(self) -> None:
        self.host.machine.refusals['backupBegin'] = 1
        self.host.snapshot()
        self.assertEqual(['backup', 'mirror'], self.host.environment.methods)

    def test_snapshot_that_died(self) -> None:
        self.journal.remember(taken(self.host.guest().definition()))
        self.host.healer().heal(self.host.context)
        self.assertEqual(1, self.host.environment.heals)
        self.host.healer().heal(self.host.context)
        self.assertEqual(1, self.host.environment.heals)

    def test_image_that_is_left(self) -> None:
        """Not all is undone, and the next one tries it again."""
        entry = taken(self.host.guest().definition(), image=self.host.image)
        self.journal.remember(entry)
        self.host.context.troubles[1] = exception.KeystoneUnavailable(
            reason='it is away'
        )
        self.host.healer().heal(self.host.context)
        self.assertEqual(0, self.host.environment.heals)
        self.host.healer().heal(self.host.context)
        self.assertEqual(1, self.host.environment.heals)

    def test_how_long_the_guest_stood_still(self) -> None:
        self.assertGreater(self.host.snapshot().stall_seconds, 0)
        self.host.set('snapshot', 'quiesce', 'never')
        self.host.image = self.host.glance.add(name='another')
        self.assertEqual(0, self.host.snapshot().stall_seconds)


@ddt.ddt
class SnapshotTest(DriverCase):
    def test_image_is_active_and_described(self) -> None:
        instance = Instance(
            documents.UUID, project_id=documents.PROJECT, os_type='linux'
        )
        self.host.snapshot(instance=instance)
        image = self.host.glance.images[self.host.image]
        self.assertEqual(CONTENT, self.host.glance.content[self.host.image])
        self.assertEqual('active', image['status'])
        self.assertEqual(
            {
                'disk_format': 'qcow2',
                'container_format': 'bare',
                'image_location': 'snapshot',
                'image_state': 'available',
                'owner_id': documents.PROJECT,
                'os_type': 'linux',
                'snapshot_method': 'backup',
                'snapshot_method_reason': 'the guest is running',
                'snapshot_quiesced': 'true',
                'snapshot_quiesced_reason': 'by the guest agent',
                'snapshot_disk': 'vda',
                'snapshot_disk_size': str(2 << 30),
                'snapshot_source_format': 'qcow2',
                'snapshot_quiesced_file_systems': '1',
            },
            {
                name: image[name]
                for name in image
                if name
                in ('disk_format', 'container_format', 'owner_id', 'os_type')
                or name.startswith(('image_', 'snapshot_'))
            },
        )

    def test_result(self) -> None:
        snapshot = self.host.snapshot()
        self.assertEqual(documents.NAME, snapshot.domain)
        self.assertEqual(documents.UUID, snapshot.uuid)
        self.assertEqual('backup', snapshot.method)
        self.assertTrue(snapshot.streamed)
        self.assertTrue(snapshot.quiesced)
        self.assertEqual('vda', snapshot.disks[0].disk)
        self.assertEqual(2 << 30, snapshot.disks[0].disk_size)
        self.assertEqual('qcow2', snapshot.disks[0].source_format)
        self.assertEqual(len(CONTENT), snapshot.size)
        self.assertEqual(
            hashlib.sha512(CONTENT).hexdigest(), snapshot.disks[0].sha512
        )
        self.assertEqual(
            ['prepare', 'capture', 'stream', 'give_back'],
            list(snapshot.seconds),
        )

    def test_result_of_a_conversion(self) -> None:
        self.host.set('snapshot', 'method', 'mirror')
        snapshot = self.host.snapshot()
        self.assertFalse(snapshot.streamed)
        self.assertEqual(
            ['prepare', 'capture', 'extract', 'give_back', 'upload'],
            list(snapshot.seconds),
        )

    def test_task_states(self) -> None:
        self.host.snapshot()
        self.assertEqual(
            [
                {'task_state': IMAGE_PENDING_UPLOAD},
                {
                    'task_state': IMAGE_UPLOADING,
                    'expected_state': IMAGE_PENDING_UPLOAD,
                },
            ],
            self.host.task_states,
        )
        # The words of nova.compute.task_states.
        self.assertEqual(
            ('image_pending_upload', 'image_uploading'),
            (IMAGE_PENDING_UPLOAD, IMAGE_UPLOADING),
        )

    def test_format_and_compression(self) -> None:
        self.host.set('libvirt', 'snapshot_image_format', 'qcow2')
        self.host.set('libvirt', 'snapshot_compression', True)
        self.host.snapshot()
        self.assertEqual(
            Encoding('qcow2', 'zstd', 1), self.host.data_plane.encoding
        )

    def test_limits(self) -> None:
        for path, timeout in (
            ('backup', 'upload_timeout'),
            ('mirror', 'extract_timeout'),
        ):
            host = self.useFixture(FakeHost())
            host.set('snapshot', 'method', path)
            host.set('snapshot', timeout, 77)
            host.set('snapshot', 'bandwidth', 3)
            host.set('snapshot', 'nice', 5)
            host.set('snapshot', 'ionice', 'idle')
            host.snapshot()
            self.assertEqual(
                Limits(77, 3 << 20, 5, 'idle', least_rate=16 << 10),
                host.data_plane.limits,
            )

    def test_certificates_are_within_reach_of_the_data_plane(self) -> None:
        for path in ('backup', 'mirror'):
            host = self.useFixture(FakeHost())
            host.context.cacert = '/etc/nova/ca.pem'
            host.set('snapshot', 'method', path)
            host.snapshot()
            self.assertEqual(('/etc/nova/ca.pem',), host.data_plane.files)

    def test_no_guest_waits_for_who_yields(self) -> None:
        self.host.set('snapshot', 'method', 'cold')
        self.host.set('snapshot', 'extract_timeout', 77)
        self.host.set('snapshot', 'bandwidth', 3)
        self.host.set('snapshot', 'ionice', 'idle')
        seen = []
        self.host.data_plane.at_extract = lambda: seen.append(
            self.host.data_plane.limits
        )
        self.host.snapshot()
        self.assertEqual([Limits(77, 3 << 20, least_rate=16 << 10)], seen)

    @tables.rows(
        {
            'stream': ('backup', ['stream']),
            'conversion': ('mirror', []),
        }
    )
    def test_process_is_there_before_the_view(
        self, path: str, waiting: list[str]
    ) -> None:
        seen = []
        freeze = FakeDomain.fsFreeze

        def look(domain: FakeDomain) -> int:
            seen.append(list(self.host.data_plane.waiting))
            return freeze(domain)

        self.useFixture(fixtures.MockPatchObject(FakeDomain, 'fsFreeze', look))
        self.host.set('snapshot', 'method', path)
        self.host.snapshot()
        self.assertEqual([waiting], seen)

    def test_process_goes_with_the_view_that_never_came(self) -> None:
        self.host.machine.refusals['backupBegin'] = 1
        self.host.set('snapshot', 'method', 'backup')
        self.assertRaises(exception.SnapshotError, self.host.snapshot)
        self.assertIsNone(self.host.data_plane.view)
        self.assertEqual([], self.host.data_plane.waiting)

    def test_log_says_what_was_done_and_holds_no_secret(self) -> None:
        self.host.snapshot()
        self.assertIn('backup (the guest is running)', self.host.log.output)
        for secret in ('t0ken', 's3rvice', 's3cret'):
            self.assertNotIn(secret, self.host.log.output)

    def test_upload_asks_for_tokens_itself(self) -> None:
        """The upload asks for fresh tokens: earlier ones may have expired."""
        seen = []
        self.host.data_plane.at_upload = lambda: seen.append(
            self.host.context.accesses
        )
        self.host.snapshot()
        (access,) = self.host.data_plane.accesses
        self.assertEqual(f't0ken-{seen[0] + 1}', access.token)

    def test_surroundings_of_a_command(self) -> None:
        """A command has no environment to ask."""
        driver = SnapshotDriver(self.host.settings, Host(self.host.connection))
        driver.snapshot(
            self.host.context,
            Instance(documents.NAME),
            self.host.image,
            self.host.update_task_state,
        )
        self.assertEqual([], self.host.differences(self.before))

    def test_wait_for_room_can_be_cancelled(self) -> None:
        cancellation = Cancellation()
        self.host.set('snapshot', 'method', 'mirror')
        self.host.snapshot(cancellation=cancellation)
        self.assertIs(cancellation, self.host.environment.cancellation)


@ddt.ddt
class JournalTest(DriverCase):
    """The journal at each moment, in case the snapshot died then."""

    def setUp(self) -> None:
        super().setUp()
        self.host.set('snapshot', 'method', 'mirror')

    def entry(self) -> Entry | None:
        return self.journal.recall(documents.UUID)

    def moments(self) -> list[Entry | None]:
        """Snapshot the guest, and look at some moments."""
        found: list[Entry | None] = []
        host = self.host

        def look(*_path: str, **_states: str) -> None:
            found.append(self.entry())

        host.environment.at_claim = look
        host.data_plane.at_extract = look
        host.environment.at_end = look
        host.data_plane.at_upload = look
        # At its beginning, and before the upload.
        host.snapshot(update_task_state=look)
        return found

    def test_image_is_in_it_until_the_upload_has_ended(self) -> None:
        definition = self.host.guest().definition()
        image_alone = taken(
            definition,
            persistent=False,
            image=self.host.image,
            project=documents.PROJECT,
            directories=(self.host.directories.snapshots,),
        )
        copied = image_alone.with_(Undefine(definition), Freeze(), BlockJob())
        self.assertEqual(
            [image_alone, copied, copied, *[image_alone] * 3], self.moments()
        )
        self.assertIsNone(self.entry())

    def test_no_secret_is_in_it_when_nothing_is_taken(self) -> None:
        texts: list[str] = []

        def look(**_states: str) -> None:
            directory = pathlib.Path(self.host.directories.state)
            (file,) = directory.glob('*.json')
            texts.append(file.read_text())

        self.host.data_plane.at_extract = look
        self.host.snapshot(update_task_state=look)
        pending, copied, uploading = texts
        self.assertIn('s3cret', copied)
        for text in (pending, uploading):
            self.assertIn(self.host.image, text)
            self.assertNotIn('s3cret', text)
            self.assertNotIn('<', text)

    @tables.rows({'extract': ('at_extract',), 'upload': ('at_upload',)})
    def test_gone_after_a_failure(self, moment: str) -> None:
        seen: list[Entry | None] = []

        def fail() -> None:
            seen.append(self.entry())
            raise KeyError

        setattr(self.host.data_plane, moment, fail)
        self.assertRaises(KeyError, self.host.snapshot)
        (entry,) = seen
        self.assertEqual(self.host.image, image_of(entry))
        self.assertIsNone(self.entry())

    def test_all_of_it_where_the_guest_is_not_given_back(self) -> None:
        self.host.machine.refusals['setAutostart'] = 3
        definition = self.host.guest().definition()
        self.assertRaises(exception.UndoFailed, self.host.snapshot)
        self.assertEqual(
            taken(
                definition,
                frozen=True,
                image=self.host.image,
                project=documents.PROJECT,
                directories=(self.host.directories.snapshots,),
            ).with_(BlockJob()),
            self.entry(),
        )

    def test_no_image_where_it_goes_to_a_file(self) -> None:
        seen: list[Entry | None] = []
        self.host.data_plane.at_extract = lambda: seen.append(self.entry())
        self.host.driver().snapshot_to_file(
            Instance(documents.NAME), str(self.host.root / 'web-1.qcow2')
        )
        (entry,) = seen
        assert entry is not None
        self.assertIsNone(image_of(entry))
        self.assertTrue(entry.of_kind(Undefine))
        self.assertIsNone(self.entry())


@ddt.ddt
class SlotTest(DriverCase):
    """The disks of others are busy, and a guest lives on meanwhile."""

    def setUp(self) -> None:
        super().setUp()
        self.host.set('snapshot', 'method', 'mirror')

    @staticmethod
    def pause(host: FakeHost) -> None:
        host.machine.state = libvirt.VIR_DOMAIN_PAUSED

    @staticmethod
    def resume(host: FakeHost) -> None:
        host.machine.state = libvirt.VIR_DOMAIN_RUNNING

    @staticmethod
    def suspend(host: FakeHost) -> None:
        host.guest().power.managed_save(TIMEOUT, Cancellation())

    @staticmethod
    def stop(host: FakeHost) -> None:
        host.machine.stop()

    @tables.rows(
        {
            'paused': (libvirt.VIR_DOMAIN_RUNNING, pause, 'cold', 'paused'),
            'resumed': (libvirt.VIR_DOMAIN_PAUSED, resume, 'cold', 'running'),
            'suspended': (
                *(libvirt.VIR_DOMAIN_RUNNING, suspend, 'cold'),
                'suspended',
            ),
            'stopped': (
                *(libvirt.VIR_DOMAIN_RUNNING, stop, 'cold'),
                'shut off',
            ),
            'paused_live': (
                *(libvirt.VIR_DOMAIN_RUNNING, pause, 'auto'),
                'paused',
            ),
            'suspended_live': (
                *(libvirt.VIR_DOMAIN_RUNNING, suspend, 'auto'),
                'suspended',
            ),
        }
    )
    def test_given_back_as_it_was_when_the_slot_came(
        self,
        state: int,
        change: Callable[[FakeHost], None],
        path: str,
        afterwards: str,
    ) -> None:
        host = self.useFixture(FakeHost(state=state))
        host.set('snapshot', 'method', path)
        # A streamed image needs no slot.
        host.set('libvirt', 'snapshot_image_format', 'vmdk')
        seen: list[laws.Before] = []

        def wait() -> None:
            change(host)
            seen.append(host.before())

        host.environment.at_begin = wait
        host.snapshot()
        (before,) = seen
        self.assertEqual([], host.differences(before))
        self.assertEqual(
            PowerState(afterwards), host.guest().power.state(), afterwards
        )

    def test_defined_otherwise(self) -> None:
        """Nova may have attached a volume."""
        newer = documents.inactive(DEVICES + documents.PCI_DEVICE)
        seen: list[laws.Before] = []

        def wait() -> None:
            self.host.connection.defineXML(newer)
            seen.append(self.host.before())

        self.host.environment.at_begin = wait
        self.host.snapshot()
        (before,) = seen
        self.assertNotEqual(self.before.definition, before.definition)
        self.assertEqual([], self.host.differences(before))

    def test_given_up_before_the_upload(self) -> None:
        """The slot is released in time."""
        inside: list[bool] = []

        def look(**_states: str) -> None:
            inside.append(self.host.environment.inside)

        self.host.data_plane.at_extract = look
        self.host.data_plane.at_upload = look
        self.host.snapshot(update_task_state=look)
        self.assertEqual([True, True, False, False], inside)
        self.assertEqual(1, self.host.environment.operations)

    def test_given_up_after_a_failure(self) -> None:
        def fail() -> None:
            raise KeyError

        self.host.data_plane.at_extract = fail
        self.assertRaises(KeyError, self.host.snapshot)
        self.assertFalse(self.host.environment.inside)

    def test_nothing_is_done_while_it_waits(self) -> None:
        def wait() -> None:
            # The image has to be known to whoever heals.
            self.assertEqual(
                [
                    f'in the state directory: {documents.UUID}.json',
                    f'in the state directory: {documents.UUID}.status',
                ],
                self.host.differences(self.before),
            )
            self.assertEqual([], self.host.task_states)
            self.assertEqual([], self.host.qemu_img.calls)

        self.host.environment.at_begin = wait
        self.host.environment.is_busy = True
        self.assertRaises(exception.HostBusy, self.host.snapshot)
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual([], self.host.task_states)
        self.assertEqual({}, self.host.glance.images)


@ddt.ddt
class NotSupportedTest(testtools.TestCase):
    """The caller may know another method, and finds everything untouched."""

    DISK = '/dev/null'

    def host_with(self, source: str) -> FakeHost:
        """A host with a guest whose disk we may not read.

        :param source: file or block
        """
        disk = documents.file_disk(self.DISK, image_format='raw')
        if source == 'block':
            disk = disk.replace("type='file' dev", "type='block' dev").replace(
                'source file=', 'source dev='
            )
        host = self.useFixture(FakeHost(disk + documents.CHANNEL))
        access = os.access
        self.useFixture(
            fixtures.MockPatchObject(
                os,
                'access',
                lambda path, mode: path != self.DISK and access(path, mode),
            )
        )
        return host

    def is_refused(self, host: FakeHost) -> exception.NotSupported:
        before = host.before()
        record = dict(host.glance.images[host.image])
        requests = len(host.glance.requests)
        with faults.Interposer(host.connection) as interposer:
            error = self.assertRaises(
                exception.NotSupported, host.snapshot, interposer.connection
            )
        self.assertEqual([], host.differences(before))
        self.assertEqual(record, host.glance.images[host.image])
        self.assertEqual(
            {'GET'},
            {request.method for request in host.glance.requests[requests:]},
        )
        self.assertEqual([], host.task_states)
        # The next driver may need the slot.
        self.assertFalse(host.environment.inside)
        assert isinstance(error, exception.NotSupported)
        return error

    def test_plan(self) -> None:
        host = self.useFixture(FakeHost())
        host.machine.state = libvirt.VIR_DOMAIN_SHUTDOWN
        before = host.machine.state
        self.assertRaises(exception.NotSupported, host.snapshot)
        self.assertEqual(before, host.machine.state)
        self.assertIn(host.image, host.glance.images)
        self.assertEqual([], host.task_states)

    def test_file_that_is_mirrored(self) -> None:
        """The size of the file is measured, though QEMU reads it."""
        host = self.host_with('file')
        host.set('snapshot', 'method', 'mirror')
        error = self.is_refused(host)
        self.assertIn(self.DISK, str(error))

    def test_file_that_is_read(self) -> None:
        host = self.host_with('file')
        host.set('snapshot', 'method', 'cold')
        self.is_refused(host)

    def test_device_that_is_read(self) -> None:
        host = self.host_with('block')
        host.set('snapshot', 'method', 'cold')
        error = self.is_refused(host)
        self.assertIn(self.DISK, str(error))

    @tables.rows({source: (source,) for source in ('file', 'block')})
    def test_disk_that_is_backed_up(self, source: str) -> None:
        """QEMU alone opens it."""
        host = self.host_with(source)
        before = host.before()
        snapshot = host.snapshot()
        self.assertEqual('backup', snapshot.method)
        self.assertEqual([], host.differences(before))
        self.assertEqual([], host.qemu_img.calls)

    def test_device_that_is_mirrored(self) -> None:
        """QEMU reads it, and only its size is needed."""
        host = self.host_with('block')
        host.set('snapshot', 'method', 'mirror')
        before = host.before()
        snapshot = host.snapshot()
        self.assertEqual('mirror', snapshot.method)
        self.assertEqual([], host.differences(before))
        self.assertEqual(
            [], [call for call in host.qemu_img.calls if self.DISK in call]
        )

    def test_device_that_is_mirrored_counts_with_all_its_size(self) -> None:
        host = self.host_with('block')
        host.set('snapshot', 'method', 'mirror')
        full = types.SimpleNamespace(f_bavail=1, f_frsize=4096)
        self.useFixture(fixtures.MockPatch('os.statvfs', return_value=full))
        error = self.assertRaises(exception.NoSpace, host.snapshot)
        # 2 GiB in the delta and in the image, and the margin.
        self.assertEqual(4301, error.fields['required'])


#: States of a guest that does not run: libvirt's, its reason, ours.
STATES = {
    'asleep': (libvirt.VIR_DOMAIN_PMSUSPENDED, 0, 'asleep'),
    'crashed': (
        libvirt.VIR_DOMAIN_CRASHED,
        libvirt.VIR_DOMAIN_CRASHED_PANICKED,
        'crashed',
    ),
    'found_crashed': (
        libvirt.VIR_DOMAIN_PAUSED,
        libvirt.VIR_DOMAIN_PAUSED_CRASHED,
        'crashed',
    ),
    'stopped_by_an_error': (
        libvirt.VIR_DOMAIN_PAUSED,
        libvirt.VIR_DOMAIN_PAUSED_IOERROR,
        'paused',
    ),
}


@ddt.ddt
class StateTest(testtools.TestCase):
    """A guest that does not run, and has a QEMU process."""

    def host(self, state: int, reason: int = 0) -> FakeHost:
        host = self.useFixture(FakeHost(state=state))
        host.machine.reason = reason
        return host

    @tables.rows(
        {
            f'{name}_{path}': (*row, path)
            for name, row in STATES.items()
            for path in ('backup', 'mirror')
        }
    )
    def test_live(
        self, state: int, reason: int, words: str, path: str
    ) -> None:
        host = self.host(state, reason)
        if path == 'mirror':
            host.machine.refusals['backupBegin'] = 1
        before = host.before()
        snapshot = host.snapshot()
        self.assertEqual(path, snapshot.method)
        self.assertFalse(snapshot.quiesced)
        self.assertIn(words, snapshot.quiesced_reason)
        self.assertEqual(0, snapshot.stall_seconds)
        self.assertEqual([], host.differences(before))
        self.assertEqual([state, reason], [*FakeDomain(host.machine).state()])

    @tables.rows({name: STATES[name] for name in ('asleep', 'crashed')})
    def test_never_suspended(
        self, state: int, reason: int, words: str
    ) -> None:
        """A cold snapshot would bring the guest back in another state."""
        host = self.host(state, reason)
        host.set('snapshot', 'method', 'cold')
        before = host.before()
        error = self.assertRaises(exception.NotSupported, host.snapshot)
        self.assertIn(words, str(error))
        self.assertEqual([], host.differences(before))

    @tables.rows(STATES)
    def test_freeze_is_required(
        self, state: int, reason: int, words: str
    ) -> None:
        host = self.host(state, reason)
        host.set('snapshot', 'quiesce', 'require')
        before = host.before()
        error = self.assertRaises(exception.QuiesceFailed, host.snapshot)
        self.assertIn(words, str(error))
        self.assertEqual([], host.differences(before))

    def test_shut_down_meanwhile(self) -> None:
        host = self.host(libvirt.VIR_DOMAIN_SHUTDOWN)
        host.machine.shuts_down_after = 4
        snapshot = host.snapshot()
        self.assertEqual('cold', snapshot.method)
        self.assertEqual('the guest is shut off', snapshot.method_reason)

    def test_woken_meanwhile(self) -> None:
        """The end of the job has freed the space that its writes lacked."""
        host = self.host(libvirt.VIR_DOMAIN_PMSUSPENDED)
        host.data_plane.at_extract = host.machine.fail_to_write
        host.snapshot()
        self.assertEqual(libvirt.VIR_DOMAIN_RUNNING, host.machine.state)


class RefusedTest(DriverCase):
    """Refusals before anything is touched."""

    def refused(
        self, error: type[Exception], **how: Any
    ) -> exception.SnapshotError:
        raised = self.assertRaises(error, self.host.snapshot, **how)
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual([], self.host.task_states)
        self.assertNotIn(self.host.image, self.host.glance.images)
        assert isinstance(raised, exception.SnapshotError)
        return raised

    def test_unknown_domain(self) -> None:
        self.refused(exception.DomainNotFound, instance=Instance('web-9'))

    def test_image_is_not_there(self) -> None:
        del self.host.glance.images[self.host.image]
        self.refused(exception.ImageNotFound)

    def test_no_space(self) -> None:
        self.host.set('snapshot', 'method', 'mirror')
        full = types.SimpleNamespace(f_bavail=1, f_frsize=4096)
        self.useFixture(fixtures.MockPatch('os.statvfs', return_value=full))
        error = self.refused(exception.NoSpace)
        # 2 MiB of content in the delta and in the image, and the margin.
        self.assertEqual(5, error.fields['required'])

    def test_delta_of_an_overlay_is_the_overlay(self) -> None:
        self.host.set('snapshot', 'method', 'mirror')
        self.useFixture(
            fixtures.MockPatchObject(os.path, 'isfile', return_value=True)
        )
        self.useFixture(
            fixtures.MockPatchObject(
                qemu_img, 'allocated_bytes', lambda _image: 1 << 20
            )
        )
        full = types.SimpleNamespace(f_bavail=1, f_frsize=4096)
        self.useFixture(fixtures.MockPatch('os.statvfs', return_value=full))
        error = self.refused(exception.NoSpace)
        self.assertEqual(4, error.fields['required'])
        self.assertEqual(
            self.host.directories.snapshots, error.fields['directory']
        )

    def test_delta_needs_no_space_where_there_is_none(self) -> None:
        self.host.set('snapshot', 'method', 'cold')
        full = types.SimpleNamespace(f_bavail=1, f_frsize=4096)
        self.useFixture(fixtures.MockPatch('os.statvfs', return_value=full))
        error = self.refused(exception.NoSpace)
        self.assertEqual(3, error.fields['required'])

    def test_unsafe_backing_file(self) -> None:
        self.host.machine.stop()
        self.before = self.host.before()
        self.host.qemu_img.backing['/var/lib/nova/instances/8a6f3f5e/disk'] = (
            '/base',
            None,
        )
        self.refused(exception.UnsafeBackingFile)

    def test_another_snapshot_of_the_domain(self) -> None:
        journal = Journal(self.host.directories.state)
        with journal.exclusive(documents.UUID, documents.NAME):
            self.refused(exception.DomainBusy)


class HealTest(DriverCase):
    """A service begins, and its predecessor had died."""

    OTHER = 'c0ffee00-2c0e-4a53-9d31-6b1a52b0f0c4'

    def setUp(self) -> None:
        super().setUp()
        self.other = self.host.connection.add(
            documents.inactive(
                DEVICES, name='instance-0000002b', uuid=self.OTHER
            )
        )
        self.other.start()
        self.other_before = laws.Before.of(
            self.host.connection, 'instance-0000002b'
        )
        self.other_image = self.host.glance.add()

    def die(self, machine: Machine, image: str | None) -> None:
        """Leave behind what a snapshot does that is killed in its copy."""
        guest = Host(self.host.connection).guest(machine.name)
        self.journal.remember(taken(guest.definition(), image=image))
        guest.undefine()
        space = pathlib.Path(
            self.host.directories.snapshots, f'{guest.uuid}-x1y2z3'
        )
        space.mkdir(parents=True)
        FakeDomain(machine).begin_copy('vda', str(space / 'delta'))

    def test_watchdog_is_at_it(self) -> None:
        """The healer waits for it: its remains are deleted in Glance."""
        self.die(self.host.machine, self.host.image)
        self.useFixture(
            fixtures.MockPatchObject(healer_module, 'RESCUE_TIMEOUT', 30)
        )
        self.useFixture(
            fixtures.MockPatchObject(healer_module, 'RESCUE_INTERVAL', 0.01)
        )
        watchdog = contextlib.ExitStack()
        watchdog.enter_context(
            self.journal.exclusive(documents.UUID, documents.NAME)
        )
        healing = background.call(self.heal)
        self.assertRaises(futures.TimeoutError, healing.result, 0.1)
        watchdog.close()
        healing.result(TIMEOUT)
        self.assertEqual([], self.host.differences(self.before))
        self.assertNotIn(self.host.image, self.host.glance.images)

    def die_on_both(self) -> None:
        self.die(self.host.machine, self.host.image)
        self.die(self.other, self.other_image)

    def heal(self) -> None:
        self.host.healer().heal(self.host.context)

    def differences(self) -> list[str]:
        """Of both domains."""
        return [
            *self.host.differences(self.before),
            *self.host.differences(self.other_before),
        ]

    def is_healed_but_for(self, *images: str) -> None:
        """The guests come first; the images are not forgotten."""
        entries = self.journal.entries().found
        self.assertCountEqual(images, [image_of(entry) for entry in entries])
        for entry in entries:
            self.assertTrue(entry.is_given_back)
            self.assertIn(
                f'openstack image delete {image_of(entry)}',
                self.host.log.output,
            )
        self.assertEqual(
            {
                f'in the state directory: {entry.uuid}.json'
                for entry in entries
            },
            set(self.differences()),
        )
        self.assertCountEqual(images, self.host.glance.images)

    def entries(self) -> list[str]:
        return [entry.uuid for entry in self.journal.entries().found]

    def test_nothing_to_do(self) -> None:
        self.heal()
        self.assertEqual([], self.differences())
        self.assertEqual(0, self.host.context.accesses)
        self.assertEqual([], self.host.environment.claimed)

    def test_all_domains(self) -> None:
        self.die_on_both()
        self.heal()
        self.assertEqual([], self.differences())
        self.assertEqual({}, self.host.glance.images)

    def test_domain_that_can_not_be_healed_is_not_in_the_way(self) -> None:
        for bad, machine in (
            (documents.UUID, self.host.machine),
            (self.OTHER, self.other),
        ):
            self.die_on_both()
            # Somebody else has begun to back it up.
            machine.end_job('vda', None)
            FakeDomain(machine).begin_copy('vda', '/backup/vda')
            self.heal()
            self.assertEqual([bad], self.entries())
            self.assertIn('copy to /backup/vda', self.host.log.output)
            machine.end_job('vda', None)
            self.heal()
            self.assertEqual([], self.differences())

    def test_libvirt_refuses_once(self) -> None:
        self.die_on_both()
        self.host.machine.refusals['isPersistent'] = 1
        self.heal()
        self.assertEqual([documents.UUID], self.entries())
        # Undos without libvirt are done all the same.
        self.assertEqual({}, self.host.glance.images)
        self.heal()
        self.assertEqual([], self.differences())

    def test_snapshot_that_is_alive(self) -> None:
        self.die_on_both()
        living = self.journal.recall(documents.UUID)
        with self.journal.exclusive(documents.UUID, documents.NAME):
            self.heal()
            self.assertEqual(living, self.journal.recall(documents.UUID))
        self.assertEqual([documents.UUID], self.entries())
        self.assertIn('vda', self.host.machine.jobs)
        self.assertIsNone(self.host.machine.config)
        self.assertEqual({self.host.image}, set(self.host.glance.images))
        (space,) = os.listdir(self.host.directories.snapshots)
        self.assertTrue(space.startswith(documents.UUID))
        self.assertIn(
            f'{documents.NAME} is being snapshotted', self.host.log.output
        )
        # No advice is given where nothing is wrong.
        self.assertNotIn('or cancel it', self.host.log.output)

    def test_snapshot_that_is_alive_of_a_domain_that_is_gone(self) -> None:
        self.die_on_both()
        self.host.machine.stop()
        with self.journal.exclusive(documents.UUID, documents.NAME):
            self.heal()
        self.assertEqual([documents.UUID], self.entries())
        self.assertEqual({self.host.image}, set(self.host.glance.images))

    def test_domain_that_is_gone(self) -> None:
        """The domain was transient when it was found, or was deleted since."""
        self.die_on_both()
        entry = self.journal.recall(documents.UUID)
        assert entry is not None
        self.journal.remember(entry.without(Undefine))
        self.host.machine.stop()
        self.heal()
        self.assertEqual([], self.host.differences(self.other_before))
        self.assertEqual([], self.entries())
        self.assertEqual({}, self.host.glance.images)
        self.assertTrue(self.host.machine.gone)

    def test_domain_that_was_lost(self) -> None:
        """The domain was transient when its guest stopped."""
        self.die_on_both()
        self.host.machine.stop()
        self.heal()
        self.before = dataclasses.replace(self.before, state='shut off')
        self.assertEqual([], self.differences())

    def test_glance_is_away(self) -> None:
        """The guests come first."""
        self.die_on_both()
        self.host.glance.troubles = dict.fromkeys(range(1, 50), unavailable)
        self.heal()
        self.is_healed_but_for(self.host.image, self.other_image)
        # And once more in vain.
        self.heal()
        self.is_healed_but_for(self.host.image, self.other_image)
        self.host.glance.troubles.clear()
        self.heal()
        self.assertEqual([], self.differences())
        self.assertEqual({}, self.host.glance.images)

    def test_keystone_is_away(self) -> None:
        self.die_on_both()
        away = exception.KeystoneUnavailable(reason='connection refused')
        self.host.context.troubles = {1: away}
        self.heal()
        (image,) = self.host.glance.images
        self.is_healed_but_for(image)
        self.heal()
        self.assertEqual([], self.differences())
        self.assertEqual({}, self.host.glance.images)

    def test_domain_is_deleted_before_its_image_could_be(self) -> None:
        self.die_on_both()
        self.host.glance.troubles = dict.fromkeys(range(1, 50), unavailable)
        self.heal()
        self.host.machine.stop()
        self.host.machine.config = None
        self.heal()
        self.assertCountEqual([documents.UUID, self.OTHER], self.entries())
        self.host.glance.troubles.clear()
        self.heal()
        self.assertEqual([], self.entries())
        self.assertEqual({}, self.host.glance.images)
        self.assertTrue(self.host.machine.gone)

    def test_entry_that_can_not_be_read(self) -> None:
        self.die_on_both()
        file = pathlib.Path(
            self.host.directories.state, f'{documents.UUID}.json'
        )
        file.write_text('{')
        self.heal()
        self.assertEqual(
            [f'{file.name}.unreadable'],
            [name for name in os.listdir(file.parent) if '.json' in name],
        )
        self.assertIsNotNone(self.other.config)

    def test_entry_that_the_disk_does_not_give(self) -> None:
        self.die_on_both()
        pathlib.Path(self.host.directories.state, '0.json').mkdir()
        pathlib.Path(self.host.directories.state, 'z.json').mkdir()
        self.heal()
        self.assertEqual([], self.entries())
        self.assertIsNotNone(self.host.machine.config)
        self.assertIsNotNone(self.other.config)
        self.assertIn('0.json', self.host.log.output)

    def test_guest_is_snapshotted_afterwards(self) -> None:
        self.die_on_both()
        self.heal()
        self.host.image = self.host.glance.add()
        self.host.snapshot()
        self.assertEqual([], self.differences())


@ddt.ddt
class GivenBackTest(testtools.TestCase):
    """Somebody else takes a snapshot, and leaves what it likes."""

    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost(DEVICES + documents.PCI_DEVICE))
        # Whether a guest lets a device go can only be waited for.
        self.host.bound_guest_waits(1)
        self.machine = self.host.machine
        self.before = self.host.before()

    def given_back(self) -> contextlib.AbstractContextManager[None]:
        return self.host.healer().given_back(
            documents.UUID, self.host.context, self.host.image
        )

    def is_given_back(self) -> None:
        self.assertEqual([], self.host.differences(self.before))

    def test_nothing_was_done(self) -> None:
        with self.given_back():
            pass
        self.is_given_back()

    def test_in_the_journal_meanwhile(self) -> None:
        definition = self.host.guest().definition()
        devices = self.host.guest().describe().host_devices
        with self.given_back():
            (entry,) = Journal(self.host.directories.state).entries().found
        self.assertEqual(
            taken(definition, power_state=PowerState.RUNNING, devices=devices),
            entry,
        )

    def test_image_of_a_dead_snapshot_is_deleted_before(self) -> None:
        image = self.host.glance.add()
        entry = taken(self.host.guest().definition(), image=image)
        Journal(self.host.directories.state).remember(entry.given_back())
        with self.given_back():
            self.assertNotIn(image, self.host.glance.images)
        self.is_given_back()
        self.assertIn(self.host.image, self.host.glance.images)

    def test_image_says_nothing_of_the_one_that_it_comes_from(self) -> None:
        record = self.host.glance.images[self.host.image]
        record['os_type'] = 'linux'
        expected = dict(record)
        for name in metadata.OURS:
            record[name] = 'of another one'
        with self.given_back():
            self.assertEqual(
                expected, self.host.glance.images[self.host.image]
            )
        self.is_given_back()

    def test_transient(self) -> None:
        with self.given_back():
            self.host.guest().undefine()
        self.is_given_back()

    def test_after_an_error(self) -> None:
        """The error is raised as it is."""
        with testtools.ExpectedException(KeyError), self.given_back():
            self.host.guest().undefine()
            raise KeyError
        self.is_given_back()

    def test_suspended_without_its_device(self) -> None:
        guest = self.host.guest()
        (device,) = guest.describe().host_devices
        with self.given_back():
            guest.devices.detach(device, TIMEOUT, Cancellation())
            guest.power.managed_save(TIMEOUT, Cancellation())
        self.is_given_back()

    def test_paused_and_suspended(self) -> None:
        guest = self.host.guest()
        (device,) = guest.describe().host_devices
        guest.devices.detach(device, TIMEOUT, Cancellation())
        self.machine.state = libvirt.VIR_DOMAIN_PAUSED
        before = self.host.before()
        with self.given_back():
            guest.power.managed_save(TIMEOUT, Cancellation())
        self.assertEqual([], self.host.differences(before))

    def test_shut_off(self) -> None:
        self.machine.stop()
        before = self.host.before()
        with self.given_back():
            pass
        self.assertEqual([], self.host.differences(before))

    @tables.rows(
        {
            call: (call,)
            for call in (
                'attachDeviceFlags',
                'createWithFlags',
                'isPersistent',
                'setAutostart',
            )
        }
    )
    def test_libvirt_refuses_twice(self, call: str) -> None:
        guest = self.host.guest()
        (device,) = guest.describe().host_devices
        with self.given_back():
            guest.devices.detach(device, TIMEOUT, Cancellation())
            if call == 'createWithFlags':
                guest.power.managed_save(TIMEOUT, Cancellation())
            else:
                guest.undefine()
            self.machine.refusals[call] = 2
        self.is_given_back()

    def test_libvirt_refuses(self) -> None:
        """The next one gives it back, from the journal."""
        with (
            testtools.ExpectedException(exception.UndoFailed),
            self.given_back(),
        ):
            self.host.guest().undefine()
            self.machine.refusals['setAutostart'] = 3
        self.host.healer().heal(self.host.context)
        self.is_given_back()

    def test_guest_stops_while_it_is_transient(self) -> None:
        with self.given_back():
            self.host.guest().undefine()
            self.machine.stop()
        self.before = dataclasses.replace(
            self.before, state='shut off', host_devices=()
        )
        self.is_given_back()

    def test_no_snapshot_of_ours_meanwhile(self) -> None:
        with self.given_back():
            self.assertRaises(exception.DomainBusy, self.host.snapshot)
        self.is_given_back()

    def test_what_a_dead_snapshot_had_taken_is_given_back_before(self) -> None:
        guest = self.host.guest()
        Journal(self.host.directories.state).remember(
            taken(guest.definition())
        )
        guest.undefine()
        with self.given_back():
            self.assertTrue(guest.persistent())
        self.is_given_back()


class ToFileTest(DriverCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.host.root / 'web-1.qcow2'

    def test_file(self) -> None:
        snapshot = self.host.driver().snapshot_to_file(
            Instance(documents.NAME), str(self.path)
        )
        self.assertEqual(CONTENT, self.path.read_bytes())
        self.assertEqual(len(CONTENT), snapshot.size)
        self.assertIsNone(snapshot.disks[0].sha512)
        self.assertEqual([], self.host.differences(self.before))

    def test_glance_is_left_alone(self) -> None:
        self.host.driver().snapshot_to_file(
            Instance(documents.NAME), str(self.path)
        )
        self.assertEqual([], self.host.glance.requests)

    def test_existing_file_is_left_alone(self) -> None:
        self.path.write_text('precious')
        self.assertRaises(
            exception.OutputExists,
            self.host.driver().snapshot_to_file,
            Instance(documents.NAME),
            str(self.path),
        )
        self.assertEqual('precious', self.path.read_text())

    def test_nothing_is_left_of_a_failure(self) -> None:
        def fail() -> None:
            raise exception.CommandFailed(
                command='qemu-img convert', status=1, reason='broken'
            )

        self.host.data_plane.at_extract = fail
        self.assertRaises(
            exception.CommandFailed,
            self.host.driver().snapshot_to_file,
            Instance(documents.NAME),
            str(self.path),
        )
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual(
            {'snapshots', 'state'}, set(os.listdir(self.host.root))
        )

    def test_draft_that_stays_is_removed_later(self) -> None:
        """Something that is no file has the name of the draft."""

        def fail() -> None:
            os.unlink(self.draft())
            os.mkdir(self.draft())
            raise exception.CommandFailed(
                command='qemu-img convert', status=1, reason='broken'
            )

        self.host.data_plane.at_extract = fail
        self.assertRaises(
            exception.UndoFailed,
            self.host.driver().snapshot_to_file,
            Instance(documents.NAME),
            str(self.path),
        )
        draft = self.draft()
        os.rmdir(draft)
        pathlib.Path(draft).touch()
        (outcome,) = self.host.healer().heal(self.host.context)
        self.assertIn(f'remove {draft}', [step.what for step in outcome.steps])
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual(
            {'snapshots', 'state'}, set(os.listdir(self.host.root))
        )

    def draft(self) -> str:
        """The path that the journal has."""
        entry = Journal(self.host.directories.state).recall(documents.UUID)
        assert entry is not None
        (draft,) = entry.of_kind(Draft)
        return draft.path
