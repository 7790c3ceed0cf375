# SPDX-License-Identifier: Apache-2.0
"""Things go wrong on a real host, and the guest is given back as it was."""

from __future__ import annotations

import base64
import time
from typing import Any

import libvirt

from lab.bounded import run
from lab.options import GuestOptions
from lab.options import Shape
from nova_snapshot_driver import exception
from nova_snapshot_driver.snapshot.plan.instance import Instance
from tests import laws
from tests.functional import base
from tests.functional import meanwhile
from tests.functional.small_file_system import SmallFileSystem

#: MiB: enough for a snapshot of the guest, as it is made here.
ENOUGH = 400

COMMAND_TIMEOUT = 60


class FailureTest(base.SnapshotTest):
    options = GuestOptions('failures')

    def test_unknown_domain(self) -> None:
        error = self.assertRaises(
            exception.DomainNotFound,
            self.driver().snapshot_to_file,
            Instance('no-such-domain'),
            str(self.output / 'image'),
        )
        self.assertIn('no-such-domain', str(error))
        self.assertEqual([], list(self.output.iterdir()))

    def test_output_is_never_replaced(self) -> None:
        image = self.output / 'image'
        image.write_text('precious')
        self.assertRaises(
            exception.OutputExists,
            self.driver().snapshot_to_file,
            Instance(self.guest.name),
            str(image),
        )
        self.assertEqual('precious', image.read_text())

    # Space

    def test_too_little_space(self) -> None:
        # The delta alone is larger.
        self.guest.write_fill(32)
        self.useFixture(SmallFileSystem(self.snapshots, 16))
        error = self.snapshot_fails(
            exception.NoSpace, self.driver(method='mirror')
        )
        self.assertGreater(error.fields['required'], 16)
        self.assertLessEqual(error.fields['available'], 16)
        self.guest.still_counts()

    def test_too_little_space_for_the_output(self) -> None:
        self.output.rmdir()
        self.useFixture(SmallFileSystem(self.output, 16))
        error = self.snapshot_fails(
            exception.NoSpace, self.driver(method='cold')
        )
        self.assertEqual(str(self.output), error.fields['directory'])

    def test_directory_fills_while_copying(self) -> None:
        small = self.useFixture(SmallFileSystem(self.snapshots, ENOUGH))
        with self.meanwhile('blockRebase', small.fill) as connection:
            self.addCleanup(small.empty)
            error = self._fails_on_full_disk(
                exception.MirrorFailed,
                self.driver(connection, method='mirror'),
                small,
            )
        self.assertIn('0 MiB are free', str(error))

    def test_directory_fills_while_the_copy_is_ended(self) -> None:
        """The copy is ready, and what the guest writes last is lost."""
        small = self.useFixture(SmallFileSystem(self.snapshots, ENOUGH))

        def fill_and_write() -> None:
            small.fill()
            self.guest.write_fill(16)

        with self.meanwhile('fsFreeze', fill_and_write) as connection:
            self._fails_on_full_disk(
                exception.MirrorFailed,
                self.driver(connection, method='mirror'),
                small,
            )

    def test_directory_fills_while_extracting(self) -> None:
        self.output.rmdir()
        small = self.useFixture(SmallFileSystem(self.output, ENOUGH))
        for path, last_call in (
            ('mirror', 'defineXML'),
            ('cold', 'managedSave'),
        ):
            with self.meanwhile(last_call, small.fill) as connection:
                error = self._fails_on_full_disk(
                    exception.CommandFailed,
                    self.driver(connection, method=path),
                    small,
                )
            self.assertIn('No space left on device', str(error))

    def test_directory_fills_while_streaming(self) -> None:
        self.output.rmdir()
        small = self.useFixture(SmallFileSystem(self.output, ENOUGH))
        driver = self.driver(
            method='backup', environment=meanwhile.Exported(small.fill)
        )
        error = self._fails_on_full_disk(
            exception.DirectoryUnusable, driver, small
        )
        self.assertIn('No space left on device', str(error))

    def _fails_on_full_disk(
        self,
        error: type[exception.SnapshotError],
        driver: Any,
        small: SmallFileSystem,
    ) -> exception.SnapshotError:
        raised: exception.SnapshotError = self.assertRaises(
            error,
            driver.snapshot_to_file,
            Instance(self.guest.name),
            str(self.output / 'image'),
        )
        small.empty()
        self.laws_hold(self.guest.still_counts)
        self.assertTrue(self.guest.persistent)
        self.assertEqual([], list(self.output.iterdir()))
        return raised

    # The agent

    def test_freeze_fails(self) -> None:
        for path in ('backup', 'mirror', 'cold'):
            self.guest.fail_freeze()
            error = self.snapshot_fails(
                exception.QuiesceFailed,
                self.driver(method=path, quiesce='require'),
            )
            self.assertIn('freeze', str(error))
            self.guest.fail_freeze()
            snapshot, image = self.snapshot(self.driver(method=path))
            self.assertFalse(snapshot.quiesced)
            self.examine(image, 1)

    def test_freeze_takes_too_long(self) -> None:
        """The freeze takes effect after its bound, and is thawed anyway."""
        for path in ('backup', 'mirror', 'cold'):
            self.guest.slow_freeze(base.QUIESCE_TIMEOUT + 2)
            snapshot, image = self.snapshot(self.driver(method=path))
            self.assertFalse(snapshot.quiesced)
            self.examine(image, 1)
            self.guest.still_counts()

    def test_agent_hangs_at_the_freeze(self) -> None:
        with self.meanwhile(
            'fsFreeze', lambda: self.guest.hang_agent(8)
        ) as connection:
            began = time.monotonic()
            snapshot, image = self.snapshot(self.driver(connection))
        self.assertFalse(snapshot.quiesced)
        self.assertLess(
            self.guest.ticks.longest_gap(began, time.monotonic()),
            2 * base.QUIESCE_TIMEOUT,
        )
        self.examine(image, 1)

    def test_agent_hangs_at_the_thaw(self) -> None:
        """The guest stands still until its agent is back, and not longer."""
        for path, last_call in (
            ('backup', 'backupBegin'),
            ('mirror', 'blockJobAbort'),
        ):
            self._agent_hangs_at_the_thaw(path, last_call)

    def _agent_hangs_at_the_thaw(self, path: str, last_call: str) -> None:
        """
        :param last_call: that is made while the file systems are frozen
        """
        agent = '$(cat /run/qemu-ga.pid)'
        hang = f'sleep 1; kill -STOP {agent}; sleep 4; kill -CONT {agent}'
        with (
            self.meanwhile(
                'fsFreeze',
                # A frozen guest takes no such command any more.
                lambda: self.guest.agent_exec(f'({hang}) >/dev/null 2>&1 &'),
            ) as connection,
            self.meanwhile(
                last_call, lambda: time.sleep(2), connection
            ) as connection,
        ):
            snapshot, image = self.snapshot(
                self.driver(connection, method=path)
            )
        self.assertTrue(snapshot.quiesced)
        self.examine(image, 1)
        self.guest.still_counts()

    # Foreign work on the domain

    def test_guest_dies_while_copying(self) -> None:
        before = laws.Before.of(self.connection, self.guest.name)
        self.addCleanup(self.guest.boot)
        with self.meanwhile(
            'blockJobInfo', self.guest.destroy, occurrence=2
        ) as connection:
            error = self.assertRaises(
                exception.MirrorFailed,
                self.driver(connection, method='mirror').snapshot_to_file,
                Instance(self.guest.name),
                str(self.output / 'image'),
            )
        self.assertIn('the guest has stopped', str(error))
        self.assertEqual(
            ['state was running, and is shut off'], self.broken_laws(before)
        )

    def test_second_snapshot(self) -> None:
        second = self.driver()
        refused = []

        def try_another() -> None:
            refused.append(
                self.assertRaises(
                    exception.DomainBusy,
                    second.snapshot_to_file,
                    Instance(self.guest.name),
                    str(self.output / 'another'),
                )
            )

        for path, call in (
            ('backup', 'backupBegin'),
            ('mirror', 'blockRebase'),
        ):
            with self.meanwhile(call, try_another) as connection:
                self.snapshot(self.driver(connection, method=path))
        for error in refused:
            self.assertIn(self.guest.name, str(error))
        self.assertEqual(2, len(refused))
        self.assertFalse((self.output / 'another').exists())

    def test_foreign_block_job(self) -> None:
        target = self.guest.targets[0]
        copy = self.directory / 'foreign'
        self.guest.domain.blockCopy(
            target,
            f"<disk type='file'><source file='{copy}'/>"
            "<driver type='qcow2'/></disk>",
            {},
            libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB,
        )
        self.addCleanup(self.guest.domain.blockJobAbort, target)
        for path in ('backup', 'mirror', 'cold'):
            error = self.assertRaises(
                exception.ForeignBlockJob,
                self.driver(method=path).snapshot_to_file,
                Instance(self.guest.name),
                str(self.output / 'image'),
            )
            self.assertIn(str(copy), str(error))
            self.assertTrue(self.guest.domain.blockJobInfo(target))
        self.guest.still_counts()

    def test_copy_that_a_dead_snapshot_left(self) -> None:
        target = self.guest.targets[0]
        uuid = self.guest.domain.UUIDString()
        workspace = self.snapshots / f'{uuid}-dead'
        workspace.mkdir(parents=True)
        self.guest.domain.blockCopy(
            target,
            f"<disk type='file'><source file='{workspace}/delta'/>"
            "<driver type='qcow2'/></disk>",
            {},
            libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB,
        )
        last = self.guest.ticks.last
        _snapshot, image = self.snapshot(self.driver())
        self.examine(image, last)


class HostileRawDiskTest(base.SnapshotTest):
    """A guest writes a qcow2 header that names a file of the host."""

    options = GuestOptions('hostile', Shape.RAW)

    def test_file_of_the_host_stays_there(self) -> None:
        secret = self.directory / 'secret'
        secret.write_bytes(b'the host knows this alone'.ljust(1 << 20, b'!'))
        header = self._header_on(str(secret))
        encoded = base64.b64encode(header).decode()
        device = f'/dev/{self.guest.targets[0]}'
        self.guest.agent_exec(
            f'echo {encoded} | base64 -d | dd of={device} conv=notrunc && sync'
        )
        self._images_hold(header, ('backup', 'mirror', 'cold'))
        self.guest.destroy()
        self._images_hold(header, ('auto',))

    def _header_on(self, backing: str) -> bytes:
        image = self.directory / 'header'
        run(
            [
                *('qemu-img', 'create', '-q', '-f', 'qcow2', '-u'),
                *('-b', backing, '-F', 'raw', image, '1G'),
            ],
            timeout=COMMAND_TIMEOUT,
        )
        return image.read_bytes()[:512]

    def _images_hold(self, header: bytes, paths: tuple[str, ...]) -> None:
        for path in paths:
            for image_format in ('raw', 'qcow2'):
                _snapshot, image = self.snapshot(
                    self.driver(method=path, image_format=image_format)
                )
                start = self.directory / 'start'
                run(
                    [
                        *('qemu-img', 'dd', '-f', image_format),
                        *('-O', 'raw', 'bs=512', 'count=1'),
                        *(f'if={image.path}', f'of={start}'),
                    ],
                    timeout=COMMAND_TIMEOUT,
                )
                self.assertEqual(header, start.read_bytes())
