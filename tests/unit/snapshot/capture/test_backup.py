# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib
import pwd
import stat
import threading
import time
import types
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import ddt
import fixtures
import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.wait import Limit
from nova_snapshot_driver.hypervisor import backup_job
from nova_snapshot_driver.snapshot.capture import backup
from tests import faults
from tests import laws
from tests.unit import documents
from tests.unit import tables
from tests.unit.host import FakeHost

SECRET = '0d4b9f4e-7a0c-4f1b-8a57-5a2f6a2b8f11'

ENCRYPTION = f"""
<encryption format='luks'><secret type='passphrase' uuid='{SECRET}'/>
</encryption>"""

PATIENCE = 30


class BackupCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.machine = self.host.machine
        self.before = self.host.before()

    def look(self, find: Callable[[], object]) -> object:
        """Find something out while the image is streamed."""
        found = []
        self.host.data_plane.at_extract = lambda: found.append(find())
        self.host.snapshot()
        return found.pop()

    def job(self) -> ElementTree.Element:
        """The job that libvirt is asked for."""
        found = self.look(lambda: self.machine.backup)
        assert isinstance(found, ElementTree.Element)
        return found

    def fails(
        self, error: type[exception.SnapshotError]
    ) -> exception.SnapshotError:
        raised = self.assertRaises(error, self.host.snapshot)
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual({}, self.host.glance.images)
        assert isinstance(raised, exception.SnapshotError)
        return raised


class ViewTest(BackupCase):
    def test_view_is_the_export(self) -> None:
        view = self.look(lambda: self.host.data_plane.view)
        assert isinstance(view, Export)
        self.assertEqual('vda', view.name)
        self.assertTrue(
            view.socket.startswith(self.host.directories.snapshots)
        )

    def test_root_disk_alone_is_in_the_job(self) -> None:
        (disk,) = self.job().iterfind('disks/disk')
        self.assertEqual('vda', disk.get('name'))
        self.assertEqual('vda', disk.get('exportname'))

    def test_domain_keeps_its_definition(self) -> None:
        self.assertIsNotNone(self.look(lambda: self.machine.config))

    def test_socket_is_for_its_owner_alone(self) -> None:
        def mode() -> int:
            view = self.host.data_plane.view
            assert isinstance(view, Export)
            directory = os.path.dirname(view.socket)
            return stat.S_IMODE(os.stat(directory).st_mode)

        self.assertEqual(0o700, self.look(mode))

    def test_frozen_for_the_begin_alone(self) -> None:
        seen: list[bool] = []
        begin = self.machine.begin_backup

        def begin_backup(job: ElementTree.Element) -> None:
            seen.append(self.machine.frozen)
            begin(job)

        self.machine.begin_backup = begin_backup  # type: ignore[method-assign]
        seen.append(bool(self.look(lambda: self.machine.frozen)))
        self.assertEqual([True, False], seen)

    def test_paused_guest_stays_paused(self) -> None:
        self.machine.state = libvirt.VIR_DOMAIN_PAUSED
        before = self.host.before()
        self.assertEqual('backup', self.host.snapshot().method)
        self.assertEqual([], self.host.differences(before))

    def test_scratch_directory_of_its_own(self) -> None:
        elsewhere = self.host.root / 'scratch'
        self.host.set('snapshot', 'scratch_directory', str(elsewhere))
        scratch = self.job().find('disks/disk/scratch')
        assert scratch is not None
        self.assertTrue(scratch.get('file', '').startswith(str(elsewhere)))
        self.assertEqual([], list(elsewhere.iterdir()))


class EncryptedTest(BackupCase):
    def encrypt(self) -> None:
        disk = documents.file_disk('/var/lib/nova/instances/8a6f3f5e/disk')
        self.host = self.useFixture(
            FakeHost(disk.replace('</disk>', f'{ENCRYPTION}</disk>'))
        )
        self.machine = self.host.machine

    def test_scratch_is_made_before_the_guest_is_frozen(self) -> None:
        self.encrypt()
        frozen: list[bool] = []
        execute = self.host.qemu_img.execute

        def note(*command: str, **how: Any) -> tuple[str, str]:
            if 'encrypt.format=luks' in ' '.join(command):
                frozen.append(self.machine.frozen)
                self.assertNotIn('s3cret', ' '.join(command))
                self.assertEqual(b's3cret', how['process_input'])
            return execute(*command, **how)

        self.useFixture(
            fixtures.MonkeyPatch(
                'nova_snapshot_driver.clients.qemu_img.processutils.execute',
                note,
            )
        )
        self.host.snapshot()
        self.assertEqual([False], frozen)

    def test_scratch_is_encrypted_with_the_secret_of_the_disk(self) -> None:
        self.encrypt()
        encryption = self.job().find('disks/disk/scratch/encryption')
        assert encryption is not None
        self.assertEqual('luks', encryption.get('format'))
        secret = encryption.find('secret')
        assert secret is not None
        self.assertEqual(SECRET, secret.get('uuid'))

    def test_scratch_of_another_disk_is_not(self) -> None:
        scratch = self.job().find('disks/disk/scratch')
        assert scratch is not None
        self.assertEqual([], list(scratch))


@ddt.ddt
class OtherUserTest(BackupCase):
    """QEMU is somebody else, and makes the socket."""

    UID = os.geteuid() + 1

    def setUp(self) -> None:
        super().setUp()
        self.be_somebody_else()

    def be_somebody_else(self) -> None:
        assert self.machine.live is not None
        label = ElementTree.SubElement(
            self.machine.live, 'seclabel', type='dynamic', model='dac'
        )
        ElementTree.SubElement(label, 'label').text = f'+{self.UID}:+108'
        self.host.root.chmod(0o711)
        self.snapshots = pathlib.Path(self.host.directories.snapshots)

    def test_directory_is_entrusted_and_the_socket_claimed(self) -> None:
        view = self.look(lambda: self.host.data_plane.view)
        assert isinstance(view, Export)
        self.assertEqual(
            [(os.path.dirname(view.socket), self.UID)],
            self.host.environment.entrusted,
        )
        self.assertEqual([view.socket], self.host.environment.claimed)

    def test_mirror_where_it_may_not_be(self) -> None:
        self.host.environment.may_entrust = False
        snapshot = self.host.snapshot()
        self.assertEqual('mirror', snapshot.method)
        self.assertIn('may not give', snapshot.method_reason)
        self.assertEqual([], self.host.differences(self.before))

    @tables.rows({path: (path,) for path in ('auto', 'backup', 'mirror')})
    def test_shut_out(self, path: str) -> None:
        """No method is tried that needs the directory."""
        self.snapshots.mkdir(0o700)
        self.host.set('snapshot', 'method', path)
        with faults.Interposer(self.host.connection) as interposer:
            error = self.assertRaises(
                exception.DirectoryShut,
                self.host.snapshot,
                interposer.connection,
            )
        self.assertEqual(
            {
                'directory': str(self.snapshots),
                'mode': '0700',
                'owner': pwd.getpwuid(os.geteuid()).pw_name,
                'user': pwd.getpwuid(self.UID).pw_name,
                'bit': 'o+x',
                'path': str(self.snapshots),
                'option': '[libvirt] snapshots_directory',
            },
            error.fields,
        )
        calls = {step.call for step in interposer.steps}
        self.assertEqual(
            set(),
            calls & {'fsFreeze', 'backupBegin', 'undefineFlags', 'blockCopy'},
        )
        self.assertEqual([], self.host.differences(self.before))
        self.assertEqual({}, self.host.glance.images)

    def test_cold_needs_no_directory_of_qemus(self) -> None:
        self.snapshots.mkdir(0o700)
        self.host.set('snapshot', 'method', 'cold')
        self.assertEqual('cold', self.host.snapshot().method)

    def test_encrypted_disk_has_no_other_way(self) -> None:
        disk = documents.file_disk('/var/lib/nova/instances/8a6f3f5e/disk')
        self.host = self.useFixture(
            FakeHost(disk.replace('</disk>', f'{ENCRYPTION}</disk>'))
        )
        self.machine = self.host.machine
        self.be_somebody_else()
        scratch = self.host.root / 'scratch'
        scratch.mkdir(0o700)
        self.host.set('snapshot', 'scratch_directory', str(scratch))
        self.assertRaises(exception.DirectoryShut, self.host.snapshot)

    def test_scratch_directory_is_shut(self) -> None:
        """The mirror needs it not."""
        scratch = self.host.root / 'scratch'
        scratch.mkdir(0o700)
        self.host.set('snapshot', 'scratch_directory', str(scratch))
        snapshot = self.host.snapshot()
        self.assertEqual('mirror', snapshot.method)
        self.assertIn(f'may not enter {scratch}', snapshot.method_reason)
        self.assertEqual(
            'there is no backup job: QEMU may not enter a directory',
            self.host.glance.images[self.host.image]['snapshot_method_reason'],
        )
        self.host.set('snapshot', 'method', 'backup')
        error = self.assertRaises(exception.DirectoryShut, self.host.snapshot)
        self.assertEqual(
            '[snapshot] scratch_directory', error.fields['option']
        )


@ddt.ddt
class RefusedTest(BackupCase):
    """A backup job is refused."""

    def refuse(self) -> None:
        self.machine.refusals['backupBegin'] = 1

    def migrate(self) -> None:
        self.machine.is_migrating = True

    def deepen(self) -> None:
        deep = self.host.root / ('d' * 80)
        deep.mkdir()
        self.host.set('libvirt', 'snapshots_directory', str(deep))

    def lose_a_job(self) -> None:
        self.machine.has_lost_job = True

    WAYS = (refuse, migrate, deepen, lose_a_job)

    @tables.rows({way.__name__: (way,) for way in WAYS})
    def test_mirror_in_its_place(
        self, way: Callable[[RefusedTest], None]
    ) -> None:
        way(self)
        snapshot = self.host.snapshot()
        self.assertEqual('mirror', snapshot.method)
        public = 'there is no backup job: it is refused'
        self.assertEqual(
            public,
            self.host.glance.images[self.host.image]['snapshot_method_reason'],
        )
        self.assertTrue(snapshot.method_reason.startswith(f'{public}: '))
        self.assertEqual([], self.host.differences(self.before))
        # The API sees one snapshot.
        self.assertEqual(2, len(self.host.task_states))
        self.assertFalse(self.machine.frozen)

    @tables.rows({way.__name__: (way,) for way in WAYS})
    def test_forced(self, way: Callable[[RefusedTest], None]) -> None:
        self.host.set('snapshot', 'method', 'backup')
        way(self)
        self.fails(exception.BackupRefused)

    @tables.rows({way.__name__: (way,) for way in (migrate, lose_a_job)})
    def test_guest_stands_not_still_while_another_job_runs(
        self, way: Callable[[RefusedTest], None]
    ) -> None:
        """libvirt would wait for it for half a minute."""
        way(self)
        self.host.set('snapshot', 'method', 'backup')
        with faults.Interposer(self.host.connection) as interposer:
            self.assertRaises(
                exception.BackupRefused,
                self.host.snapshot,
                interposer.connection,
            )
        calls = {step.call for step in interposer.steps}
        self.assertNotIn('fsFreeze', calls)
        self.assertNotIn('backupBegin', calls)

    def test_copy_of_an_encrypted_disk_would_not_be(self) -> None:
        disk = documents.file_disk('/var/lib/nova/instances/8a6f3f5e/disk')
        self.host = self.useFixture(
            FakeHost(disk.replace('</disk>', f'{ENCRYPTION}</disk>'))
        )
        self.before = self.host.before()
        self.host.machine.refusals['backupBegin'] = 1
        self.fails(exception.BackupRefused)

    def test_quiesce_is_required(self) -> None:
        self.host.set('snapshot', 'quiesce', 'require')
        self.machine.freeze_fails = True
        self.fails(exception.QuiesceFailed)
        self.assertIsNone(self.machine.backup)


class EndTest(BackupCase):
    """All that counts is whether the last byte was read."""

    def test_guest_stops_when_all_is_read(self) -> None:
        self.host.data_plane.at_extract = self.machine.stop
        before = self._shut_off()
        snapshot = self.host.snapshot()
        self.assertEqual([], self.host.differences(before))
        self.assertFalse(snapshot.unfinished)

    def test_guest_stops_and_the_export_is_gone(self) -> None:
        def stop() -> None:
            self.machine.stop()
            raise exception.SourceUnreadable(reason='the server is gone')

        self.host.data_plane.at_extract = stop
        self.before = self._shut_off()
        error = self.fails(exception.BackupFailed)
        self.assertEqual('the guest has stopped', error.fields['reason'])

    def test_export_is_gone_before_the_guest_is_seen_to_stop(self) -> None:
        def fail() -> None:
            raise exception.SourceUnreadable(reason='the server is gone')

        self.before = self._shut_off()
        self.useFixture(
            fixtures.MockPatchObject(
                wait.CLOCK, 'sleep', lambda *_: self.machine.stop()
            )
        )
        self.host.data_plane.at_extract = fail
        error = self.fails(exception.BackupFailed)
        self.assertEqual('the guest has stopped', error.fields['reason'])

    def test_libvirt_notices_late_that_the_guest_has_stopped(self) -> None:
        """A foreign job that has ended by then is no reason for a refusal."""

        def fail() -> None:
            self.machine.last_words = 10
            raise exception.SourceUnreadable(reason='the server is gone')

        self.before = self._shut_off()
        self.host.data_plane.at_extract = fail
        self.fails(exception.SourceUnreadable)

    def _shut_off(self) -> laws.Before:
        self.machine.stop()
        before = self.host.before()
        self.machine.start()
        return before

    def test_somebody_ends_it_when_all_is_read(self) -> None:
        self.host.data_plane.at_extract = self.machine.abort_backup
        self.host.snapshot()
        self.assertEqual([], self.host.differences(self.before))

    def test_somebody_ends_it(self) -> None:
        def end() -> None:
            self.machine.abort_backup()
            raise exception.SourceUnreadable(reason='the server is gone')

        self.host.data_plane.at_extract = end
        error = self.fails(exception.BackupFailed)
        self.assertIn('somebody', error.fields['reason'])

    def test_export_can_not_be_read(self) -> None:
        """And the job runs: it is the disk that is broken."""

        def fail() -> None:
            raise exception.SourceUnreadable(reason='Input/output error')

        self.host.data_plane.at_extract = fail
        self.fails(exception.SourceUnreadable)

    def test_result_of_the_job_is_not_that_of_the_snapshot(self) -> None:
        for result in (
            {
                'type': libvirt.VIR_DOMAIN_JOB_FAILED,
                'success': False,
                'errmsg': 'No space left on device',
            },
            {'type': libvirt.VIR_DOMAIN_JOB_NONE},
        ):
            self.machine.backup_result = result
            self.assertEqual('backup', self.host.snapshot().method)
        self.assertEqual([], self.host.differences(self.before))

    def test_libvirt_does_not_wait_for_its_own_events(self) -> None:
        """``virDomainAbortJob`` would, for half a minute or more."""
        self.machine.refusals['abortJob'] = 1
        self.host.snapshot()
        self.assertEqual(1, self.machine.refusals['abortJob'])
        self.assertEqual([], self.host.differences(self.before))

    def _held(self) -> threading.Event:
        """QEMU does not answer, while the job is to end."""
        self.machine.backup_end_is_held = threading.Event()
        self.addCleanup(self.machine.backup_end_is_held.set)
        self.useFixture(
            fixtures.MockPatchObject(backup_job, 'PROMPTLY', Limit(0.05))
        )
        return self.machine.backup_end_is_held

    def test_job_does_not_end(self) -> None:
        """The image is complete, and the job is left to the journal."""
        held = self._held()
        snapshot = self.host.snapshot()
        self.assertTrue(snapshot.unfinished)
        self.assertIn('end the backup job failed', snapshot.notes[0])
        self.assertIn('event=snapshot.unfinished', self.host.log.output)
        image = self.host.glance.images[self.host.image]
        self.assertEqual('active', image['status'])
        left = [
            f'in the state directory: {documents.UUID}.json',
            "vda has a block job: {'type': 5, 'bandwidth': 0, 'cur': 0, "
            "'end': 1}",
        ]
        self.assertEqual(
            sorted(left), sorted(self.host.differences(self.before))
        )
        held.set()
        self.host.healer().heal(self.host.context)
        self.assertEqual([], self.host.differences(self.before))
        # The complete image stays.
        self.assertIn(self.host.image, self.host.glance.images)

    def test_job_of_a_failed_snapshot_does_not_end(self) -> None:
        self._held()
        self.host.set('snapshot', 'job_abort_timeout', 1)

        def fail() -> None:
            raise exception.SourceUnreadable(reason='Input/output error')

        self.host.data_plane.at_extract = fail
        self.assertRaises(exception.UndoFailed, self.host.snapshot)
        self.assertNotIn(self.host.image, self.host.glance.images)

    def test_somebody_else_is_ending_it(self) -> None:
        """libvirt ends no block job twice."""
        self.machine.refusals['blockJobAbort'] = 1
        self.host.snapshot()
        self.assertEqual([], self.host.differences(self.before))


class SpaceTest(BackupCase):
    """The scratch file must not fill its file system."""

    def setUp(self) -> None:
        super().setUp()
        self.free = 200
        self.host.set('snapshot', 'scratch_reserve', 100)
        self.useFixture(
            fixtures.MockPatch('os.statvfs', side_effect=self._statvfs)
        )
        self.useFixture(
            fixtures.MockPatchObject(backup, 'WATCH_INTERVAL', 0.001)
        )

    def _statvfs(self, _directory: str) -> types.SimpleNamespace:
        return types.SimpleNamespace(f_bavail=self.free, f_frsize=1 << 20)

    def fill(self) -> None:
        """Until the job is gone."""
        self.free = 99
        deadline = time.monotonic() + PATIENCE
        while self.machine.backup is not None:
            assert time.monotonic() < deadline, 'the job is not ended'
            time.sleep(0.001)

    def _fill_and_break(self) -> None:
        self.fill()
        raise exception.SourceUnreadable(reason='the server is gone')

    def test_too_little_at_the_beginning(self) -> None:
        self.free = 99
        error = self.fails(exception.NoSpace)
        self.assertIn('[snapshot] scratch_directory', str(error))

    def test_filled_meanwhile(self) -> None:
        self.host.data_plane.at_extract = self._fill_and_break
        error = self.fails(exception.ScratchFull)
        self.assertEqual(99, error.fields['available'])
        self.assertEqual(100, error.fields['reserve'])

    def test_filled_before_anybody_has_looked(self) -> None:
        """QEMU has stopped the guest, whose writes have room again."""

        def fill() -> None:
            self.machine.fail_to_write()
            self._fill_and_break()

        self.host.data_plane.at_extract = fill
        self.fails(exception.ScratchFull)

    def test_found_stopped_by_an_error(self) -> None:
        """A guest that was found stopped by an error stays stopped."""
        self.machine.fail_to_write()
        self.before = self.host.before()
        self.host.data_plane.at_extract = self._fill_and_break
        self.fails(exception.ScratchFull)
        self.assertEqual(libvirt.VIR_DOMAIN_PAUSED, self.machine.state)

    def test_paused_by_somebody_else_meanwhile(self) -> None:
        def fill() -> None:
            self.machine.state = libvirt.VIR_DOMAIN_PAUSED
            self._fill_and_break()

        self.host.data_plane.at_extract = fill
        self.assertRaises(exception.ScratchFull, self.host.snapshot)
        self.assertEqual(libvirt.VIR_DOMAIN_PAUSED, self.machine.state)

    def test_libvirt_refuses_to_end_it_at_first(self) -> None:
        self.machine.refusals['blockJobAbort'] = 3
        self.machine.refusals['abortJob'] = 3
        self.host.data_plane.at_extract = self._fill_and_break
        self.fails(exception.ScratchFull)

    def test_filled_when_all_is_read(self) -> None:
        self.host.data_plane.at_extract = self.fill
        self.host.snapshot()
        self.assertEqual([], self.host.differences(self.before))

    def test_nobody_watches_afterwards(self) -> None:
        threads = threading.active_count()
        inside = self.look(threading.active_count)
        # A thread for the space, and another for the silence.
        self.assertEqual(threads + 2, inside)
        self.assertEqual(threads, threading.active_count())


class LeftBehindTest(BackupCase):
    """A snapshot died while its job was running."""

    def die(self, socket: str) -> None:
        directory = pathlib.Path(
            self.host.directories.snapshots,
            f'libvirt-{documents.UUID}.a1b2c3d4',
        )
        directory.mkdir(parents=True)
        space = directory.with_name(f'{documents.UUID}-a1b2c3')
        space.mkdir()
        job = ElementTree.fromstring(
            "<domainbackup mode='pull'>"
            f"<server transport='unix' socket='{socket}'/><disks>"
            "<disk name='vda' backup='yes' type='file'>"
            f"<scratch file='{space}/scratch'/></disk></disks>"
            '</domainbackup>'
        )
        self.machine.begin_backup(job)

    def test_next_snapshot_ends_it(self) -> None:
        self.die(
            f'{self.host.directories.snapshots}/libvirt-{documents.UUID}.a1b2c3d4/s'
        )
        self.host.snapshot()
        self.assertEqual([], self.host.differences(self.before))

    def test_its_socket_leads_elsewhere(self) -> None:
        """QEMU has made it so, and it is the job of ours all the same."""
        directory = pathlib.Path(
            f'{self.host.directories.snapshots}/'
            f'libvirt-{documents.UUID}.a1b2c3d4'
        )
        self.die(str(directory / 's'))
        (directory / 's').unlink()
        (directory / 's').symlink_to('/etc/passwd')
        self.host.snapshot()
        self.assertEqual([], self.host.differences(self.before))

    def test_it_has_filled_its_file_system(self) -> None:
        """Nobody was there to see it. QEMU has stopped the guest."""
        self.die(
            f'{self.host.directories.snapshots}/libvirt-{documents.UUID}.a1b2c3d4/s'
        )
        self.machine.fail_to_write()
        self.host.snapshot()
        self.assertEqual([], self.host.differences(self.before))

    def test_that_of_somebody_else_is_left_alone(self) -> None:
        socket = str(self.host.root / 'socket')
        self.die(socket)
        for path in ('auto', 'mirror', 'cold'):
            self.host.set('snapshot', 'method', path)
            self.assertRaises(exception.ForeignJob, self.host.snapshot)
        self.assertIsNotNone(self.machine.backup)

    def test_that_without_a_socket_is_left_alone(self) -> None:
        self.machine.begin_backup(
            ElementTree.fromstring("<domainbackup mode='push'/>")
        )
        self.assertRaises(exception.ForeignJob, self.host.snapshot)
        self.assertIsNotNone(self.machine.backup)
