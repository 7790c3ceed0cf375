# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable

import fixtures
import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.hypervisor.guest import Guest
from tests.unit import documents
from tests.unit.fake_libvirt import Agent
from tests.unit.host import CHAIN
from tests.unit.host import FakeHost


class MirrorCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.machine = self.host.machine
        self.host.set('snapshot', 'method', 'mirror')

    def created(self) -> tuple[str, ...]:
        """How ``qemu-img`` was told to make the delta."""
        return next(c for c in self.host.qemu_img.calls if c[1] == 'create')


class ViewTest(MirrorCase):
    def look(self, find: Callable[[], object]) -> object:
        """Find something out while the image is extracted."""
        found = []
        self.host.data_plane.at_extract = lambda: found.append(find())
        self.host.snapshot()
        return found.pop()

    def test_view_is_the_delta(self) -> None:
        view = self.look(lambda: self.host.data_plane.view)
        assert isinstance(view, Layer)
        self.assertEqual('qcow2', view.format)
        self.assertTrue(view.path.startswith(self.host.directories.snapshots))

    def test_delta_lies_on_the_images_that_the_domain_names(self) -> None:
        view = self.look(lambda: self.host.data_plane.view)
        assert isinstance(view, Layer)
        ((path, image_format),) = CHAIN
        self.assertEqual(Layer(path, image_format, is_last=True), view.backing)

    def test_delta_is_for_its_owner_alone(self) -> None:
        """libvirt gives it to QEMU for as long as that writes it."""

        def mode() -> int:
            view = self.host.data_plane.view
            assert isinstance(view, Layer)
            return stat.S_IMODE(os.stat(view.path).st_mode)

        self.assertEqual(0o600, self.look(mode))

    def test_guest_is_as_it_was_while_the_image_is_extracted(self) -> None:
        before = self.host.before()
        differences = self.look(lambda: self.host.differences(before))
        assert isinstance(differences, list)
        # The entry stays as long as anything is not done.
        workspace, entry, _status = differences
        self.assertIn('in the snapshots directory', workspace)
        self.assertIn('in the state directory', entry)

    def test_delta_is_claimed_when_the_guest_is_as_it_was(self) -> None:
        """And before it is read: libvirt has given it to QEMU."""
        before = self.host.before()
        claimed = []

        def look(path: str) -> None:
            claimed.append(path)
            self.assertTrue(os.path.exists(path))
            self.assertIsNone(self.host.data_plane.view)
            self.assertFalse(self.machine.frozen)
            self.assertEqual(before, self.host.before())
            workspace, entry, _status = self.host.differences(before)
            self.assertIn('in the snapshots directory', workspace)
            self.assertIn('in the state directory', entry)

        self.host.environment.at_claim = look
        view = self.look(lambda: self.host.data_plane.view)
        assert isinstance(view, Layer)
        self.assertEqual([view.path], claimed)

    def test_delta_of_a_copy_that_failed_is_not_claimed(self) -> None:
        self.machine.job_end = libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED
        self.assertRaises(exception.MirrorFailed, self.host.snapshot)
        self.assertEqual([], self.host.environment.claimed)

    def test_delta_lies_on_the_same_backing_file(self) -> None:
        self.host.snapshot()
        arguments = ' '.join(self.created())
        path, image_format = CHAIN[0]
        self.assertIn(f'-b {path} -F {image_format}', arguments)
        # As the guest sees the disk, however large the backing file is.
        self.assertTrue(arguments.endswith(str(2048 << 20)))

    def test_disk_without_a_backing_file(self) -> None:
        self.machine.stop()
        self.machine.chains.clear()
        self.machine.start()
        self.host.snapshot()
        self.assertNotIn('-b', self.created())

    def test_transient_domain_stays_transient(self) -> None:
        self.machine.config = None
        before = self.host.before()
        self.host.snapshot()
        self.assertEqual([], self.host.differences(before))

    def test_guest_has_stopped_when_it_is_undefined(self) -> None:
        """The transient domain is gone with its guest, then defined again."""
        before = dataclasses.replace(self.host.before(), state='shut off')
        undefine = Guest.undefine

        def stop_and_undefine(guest: Guest) -> None:
            self.machine.stop()
            undefine(guest)

        self.useFixture(
            fixtures.MockPatchObject(Guest, 'undefine', stop_and_undefine)
        )
        error = self.assertRaises(exception.MirrorFailed, self.host.snapshot)
        self.assertIn('the guest has stopped', str(error))
        self.assertEqual([], self.host.differences(before))

    def test_paused_guest(self) -> None:
        self.machine.state = libvirt.VIR_DOMAIN_PAUSED
        before = self.host.before()
        snapshot = self.host.snapshot()
        self.assertEqual([], self.host.differences(before))
        self.assertFalse(snapshot.quiesced)


class FreezeTest(MirrorCase):
    """When the file systems stand still, and when not."""

    def test_frozen_when_the_copy_is_ended_alone(self) -> None:
        seen = []

        def end(target: str, status: int | None) -> None:
            seen.append((self.machine.frozen, self.machine.jobs[target].ready))
            end_job(target, status)

        end_job, self.machine.end_job = self.machine.end_job, end  # type: ignore[method-assign]
        self.host.snapshot(
            progress=lambda step, done, total: seen.append(
                (self.machine.frozen, step)
            )
        )
        self.assertEqual(
            [
                (False, 'copy'),
                (False, 'copy'),
                (True, True),
                (False, 'extract'),
            ],
            seen,
        )

    def test_late_freeze_does_not_last_until_the_image_is_read(self) -> None:
        """A guest is not kept waiting for gigabytes."""
        self.machine.freeze_is_late = True
        self.machine.refusals['fsThaw'] = 2
        seen = []
        self.host.data_plane.at_extract = lambda: seen.append(
            self.machine.frozen
        )
        snapshot = self.host.snapshot()
        self.assertEqual([False], seen)
        self.assertFalse(snapshot.quiesced)

    def test_required_and_refused(self) -> None:
        self.host.set('snapshot', 'quiesce', 'require')
        self.machine.freeze_fails = True
        before = self.host.before()
        self.assertRaises(exception.QuiesceFailed, self.host.snapshot)
        self.assertEqual([], self.host.differences(before))

    def test_required_and_mute(self) -> None:
        """Seen before anything is done to the domain."""
        self.host.set('snapshot', 'quiesce', 'require')
        self.machine.agent = Agent.HANGS
        self.machine.refusals['undefineFlags'] = 1
        self.assertRaises(exception.QuiesceFailed, self.host.snapshot)
        self.assertEqual(1, self.machine.refusals['undefineFlags'])


class FailureTest(MirrorCase):
    def fails(self, error: type[Exception]) -> Exception:
        before = self.host.before()
        raised = self.assertRaises(error, self.host.snapshot)
        self.assertEqual([], self.host.differences(before))
        assert isinstance(raised, Exception)
        return raised

    def test_copy_fails(self) -> None:
        self.machine.job_dies_at = 1
        error = self.fails(exception.MirrorFailed)
        # The one who looks for the cause learns where to look.
        self.assertIn('MiB are free', str(error))
        self.assertIn(self.host.directories.snapshots, str(error))

    def test_copy_fails_at_its_end(self) -> None:
        self.machine.job_end = libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED
        self.fails(exception.MirrorFailed)

    def test_copy_is_never_ready(self) -> None:
        self.host.set('snapshot', 'mirror_timeout', 1)
        self.machine.polls_until_ready = 1 << 30
        error = self.fails(exception.HypervisorTimeout)
        self.assertIn('mirror_timeout', str(error))

    def test_cancelled_while_copying(self) -> None:
        self.machine.polls_until_ready = 1 << 30
        before = self.host.before()
        cancellation = Cancellation()

        def cancel(step: str, done: int, total: int) -> None:
            cancellation.request('SIGINT')

        error = self.assertRaises(
            exception.Cancelled,
            self.host.snapshot,
            cancellation=cancellation,
            progress=cancel,
        )
        self.assertIn('SIGINT', str(error))
        self.assertEqual([], self.host.differences(before))

    def test_domain_can_not_be_defined_again(self) -> None:
        self.machine.refusals['setAutostart'] = 3
        error = self.assertRaises(exception.UndoFailed, self.host.snapshot)
        self.assertIn('define', str(error))
        # The journal keeps the undo, and the next snapshot does it.
        state = os.listdir(self.host.directories.state)
        self.assertIn(f'{documents.UUID}.json', state)

    def test_next_snapshot_gives_back_what_this_one_could_not(self) -> None:
        before = self.host.before()
        self.machine.refusals['setAutostart'] = 3
        self.assertRaises(exception.UndoFailed, self.host.snapshot)
        self.host.image = self.host.glance.add()
        self.host.snapshot()
        self.assertEqual([], self.host.differences(before))
