# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot`` as a person runs it, and as a person interrupts it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from typing import ClassVar

from oslotest import base as oslotest_base

from lab.apart import apart
from lab.bounded import wait_until
from lab.disks import Layer
from lab.evidence import examine
from lab.glance import Glance
from lab.guest import WitnessGuest
from lab.hypervisor import Hypervisor
from lab.options import GuestOptions
from tests import laws
from tests.functional import base

#: Seconds
TIMEOUT = 120

PROGRAM = Path(sys.executable).with_name('nova-snapshot')


def _before(hypervisor: Hypervisor, name: str) -> laws.Before:
    return laws.Before.of(hypervisor.connection, name)


def _broken_laws(
    hypervisor: Hypervisor,
    before: laws.Before,
    directories: laws.Directories,
) -> list[str]:
    return laws.differences(hypervisor.connection, before, directories)


class CommandCase(oslotest_base.BaseTestCase):
    """
    :cvar name: of the guest
    """

    name: ClassVar[str]
    guest: ClassVar[WitnessGuest]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # The command opens it, and so this process must not.
        hypervisor = Hypervisor(base.scratch_directory() / cls.name)
        cls.guest = WitnessGuest(hypervisor, GuestOptions(cls.name))
        cls.addClassCleanup(apart, cls.guest.discard)
        apart(cls.guest.boot)

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(tempfile.mkdtemp(dir=base.scratch_directory()))
        self.addCleanup(shutil.rmtree, self.directory)
        self.output = self.directory / 'output'
        self.output.mkdir()
        self.image = self.output / 'image'
        #: Of the snapshots that are started, in MiB a second.
        self.bandwidth = 0
        self.directories = laws.Directories(
            str(self.directory / 'snapshots'),
            str(self.directory / 'state'),
            str(self.output),
        )

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start the command with a nova.conf that names our directories."""
        configuration = self.directory / 'nova.conf'
        configuration.write_text(
            f'[DEFAULT]\nstate_path = {self.directory}\n'
            '[libvirt]\n'
            f'connection_uri = {self.guest.hypervisor.uri}\n'
            f'snapshots_directory = {self.directories.snapshots}\n'
            f'[snapshot]\nstate_directory = {self.directories.state}\n'
            f'bandwidth = {self.bandwidth}\n'
        )
        command, *rest = arguments
        process = subprocess.Popen(
            [PROGRAM, command, '--config-file', configuration, *rest],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                name: value
                for name, value in os.environ.items()
                if not name.startswith('OS_')
            },
            text=True,
        )
        self.addCleanup(process.kill)
        return process

    def run_command(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit status, output and errors."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=TIMEOUT)
        return process.returncode, output, errors

    def before(self) -> laws.Before:
        return apart(_before, self.guest.hypervisor, self.guest.name)

    def assert_laws_hold(self, before: laws.Before) -> None:
        self.assertEqual(
            [],
            apart(
                _broken_laws,
                self.guest.hypervisor,
                before,
                self.directories,
            ),
        )
        with self.guest.ticks as ticks:
            ticks.wait(5, 30)


class CommandTest(CommandCase):
    name = 'cmd'

    def test_create_file(self) -> None:
        before = self.before()
        status, output, errors = self.run_command(
            'create', self.guest.name, '--output', self.image
        )
        self.assertEqual(0, status, errors)
        self.assertIn('backup (the guest is running)', output)
        # No terminal, no colours, no bar.
        self.assertNotIn('\x1b', output + errors)
        self.assert_laws_hold(before)
        examine(Layer(self.image, 'qcow2'), self.guest.fills)

    def test_create_in_glance(self) -> None:
        with Glance(base.scratch_directory() / 'glance-cmd') as glance:
            status, output, errors = self.run_command(
                *('create', self.guest.name, '--format', 'json'),
                *('--name', 'Schnappschuß', '--glance-url', glance.url),
            )
            self.assertEqual(0, status, errors)
            result = json.loads(output)
            [stored] = glance.store_files()
            self.assertEqual(result['image'], stored.name)
            self.assertEqual(result['size'], stored.stat().st_size)
        self.assertEqual('Schnappschuß', result['name'])
        self.assertTrue(result['quiesced'])

    def test_unknown_domain(self) -> None:
        with Glance(base.scratch_directory() / 'glance-none') as glance:
            status, output, errors = self.run_command(
                *('create', 'nobody', '--format', 'json'),
                *('--glance-url', glance.url),
            )
            self.assertEqual([], glance.store_files())
        self.assertEqual(1, status)
        error = json.loads(output)['error']
        self.assertEqual('domain-not-found', error['code'])
        self.assertEqual({'domain': 'nobody'}, error['fields'])
        self.assertIn('nobody', errors)

    def test_no_cloud(self) -> None:
        status, _output, errors = self.run_command('create', self.guest.name)
        self.assertEqual(1, status)
        self.assertIn('--glance-url', errors)

    def test_check(self) -> None:
        with Glance(base.scratch_directory() / 'glance-check') as glance:
            status, output, errors = self.run_command(
                *('check', self.guest.name, '--format', 'json'),
                *('--glance-url', glance.url),
            )
            self.assertEqual([], glance.store_files())
        self.assertEqual(0, status, errors)
        findings: list[dict[str, Any]] = json.loads(output)
        # The host has no Nova, and needs none.
        self.assertEqual(
            {'Nova'},
            {
                found['subject']
                for found in findings
                if found['verdict'] != 'SUCCESS'
            },
        )
        self.assertIn(
            f'Domain {self.guest.name}: agent',
            {found['subject'] for found in findings},
        )

    def test_check_finds_what_is_wrong(self) -> None:
        status, output, _errors = self.run_command(
            *('check', 'nobody', '--format', 'json'),
            *('--glance-url', 'http://127.0.0.1:9'),
        )
        self.assertEqual(1, status)
        bad = {
            found['subject']
            for found in json.loads(output)
            if found['verdict'] == 'FAILURE'
        }
        self.assertEqual({'Glance', 'Domain nobody'}, bad)


class InterruptedTest(CommandCase):
    """A snapshot does not come to its end, whoever ends it."""

    name = 'int'

    def running(self) -> list[dict[str, Any]]:
        status, output, errors = self.run_command('status', '--format', 'json')
        self.assertEqual(0, status, errors)
        return list(json.loads(output)['running'])

    def test_cancelled(self) -> None:
        Path(self.directories.state).mkdir(0o700)
        before = self.before()
        self.assertEqual([], self.running())
        snapshot = self.start(
            'create', self.guest.name, '--output', self.image
        )
        state = Path(self.directories.state)
        wait_until(
            lambda: any(state.glob('*.status')), 'the snapshot', TIMEOUT
        )
        # Stop the snapshot, so that it can't end before it is cancelled.
        snapshot.send_signal(signal.SIGSTOP)
        (found,) = self.running()
        self.assertEqual(self.guest.name, found['domain'])
        self.assertEqual(snapshot.pid, found['pid'])
        self.assertEqual(str(self.image), found['file'])
        cancel = self.start('cancel', self.guest.name, '--format', 'json')
        wait_until(lambda: any(state.glob('*.cancel')), 'the request', TIMEOUT)
        snapshot.send_signal(signal.SIGCONT)
        output, errors = cancel.communicate(timeout=TIMEOUT)
        self.assertEqual(0, cancel.returncode, output + errors)
        self.assertIs(True, json.loads(output)['given_back'])
        _output, errors = snapshot.communicate(timeout=TIMEOUT)
        self.assertEqual(130, snapshot.returncode, errors)
        self.assertIn('nova-snapshot cancel', errors)
        self.assertEqual([], self.running())
        self.assert_laws_hold(before)
        self.assertEqual([], os.listdir(self.output))

    def test_interrupted(self) -> None:
        """At moments all over its way, by Ctrl-C and by SIGTERM."""
        # A shell starts what runs in the background with SIGINT ignored, and
        # the command keeps to that.
        self.addCleanup(
            signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)
        )
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        before = self.before()
        state = Path(self.directories.state)
        statuses = []
        for path, waits in (
            ('backup', (0.0, 0.1, 0.4, 0.8)),
            ('mirror', (0.0, 0.6, 1.2)),
            ('cold', (0.0, 0.6, 1.2)),
        ):
            for number, wait in enumerate(waits):
                process = self.start(
                    *('create', self.guest.name, '--method', path),
                    *('--output', self.image),
                )
                # How long the command takes to start is the machine's affair.
                while process.poll() is None and not any(
                    state.glob('*.status')
                ):
                    time.sleep(0.01)
                time.sleep(wait)
                process.send_signal(
                    signal.SIGINT if number % 2 else signal.SIGTERM
                )
                _output, errors = process.communicate(timeout=TIMEOUT)
                statuses.append(process.returncode)
                with self.subTest(path=path, wait=wait, errors=errors):
                    # A signal ends the command on the spot before it has
                    # begun to listen, and after it has done its work.
                    self.assertIn(
                        process.returncode,
                        (0, 130, -signal.SIGINT, -signal.SIGTERM),
                    )
                    if process.returncode in (0, 130):
                        self.assertIs(
                            process.returncode == 0, self.image.exists()
                        )
                    if self.image.exists():
                        examine(Layer(self.image, 'qcow2'), self.guest.fills)
                    self.assert_laws_hold(before)
                self.image.unlink(missing_ok=True)
        self.assertIn(130, statuses)

    def test_killed_while_the_domain_is_transient(self) -> None:
        """The next snapshot gives back what the dead one could not."""
        before = self.before()
        self._kill_while_transient()
        self.assertNotEqual(
            [],
            apart(
                _broken_laws,
                self.guest.hypervisor,
                before,
                self.directories,
            ),
        )
        status, _output, errors = self.run_command(
            'create', self.guest.name, '--output', self.image
        )
        self.assertEqual(0, status, errors)
        self.assert_laws_hold(before)

    def test_killed_and_the_guest_stopped(self) -> None:
        """libvirt has lost the domain, and the driver has not."""
        before = self.before()
        self._kill_while_transient()
        apart(self.guest.destroy)
        status, _output, errors = self.run_command(
            'create', self.guest.name, '--output', self.image
        )
        self.assertEqual(0, status, errors)
        apart(self.guest.boot)
        self.assert_laws_hold(before)

    def test_killed_while_the_guest_is_saved(self) -> None:
        """The guest was frozen, saved and stopped, and comes back."""
        before = self.before()
        process = self.start(
            *('create', self.guest.name, '--output', self.image),
            *('--method', 'cold'),
        )
        wait_until(
            lambda: bool(list(self.output.glob('*.part'))),
            'the disk to be read',
            TIMEOUT,
            interval=0.01,
        )
        process.kill()
        process.wait(TIMEOUT)
        after = self.before()
        self.assertEqual(('shut off', True), (after.state, after.saved))

        status, _output, errors = self.run_command(
            'create', self.guest.name, '--output', self.image
        )
        self.assertEqual(0, status, errors)
        self.assert_laws_hold(before)

    def test_killed_and_recovered(self) -> None:
        """No snapshot is wanted, only the guest."""
        before = self.before()
        for path in ('cold', 'backup', 'mirror'):
            self.bandwidth = 4
            process = self.start(
                *('create', self.guest.name, '--output', self.image),
                *('--method', path),
            )
            wait_until(
                lambda: any(self.output.glob('*.part')),
                'the disk to be read',
                TIMEOUT,
                interval=0.01,
            )
            process.kill()
            process.wait(TIMEOUT)
            status, output, errors = self.run_command(
                'status', '--all', '--format', 'json'
            )
            (found,) = json.loads(output)['abandoned']
            self.assertEqual(self.guest.name, found['domain'])
            status, output, errors = self.run_command('recover', '--dry-run')
            self.assertEqual(0, status, output + errors)
            self.assertIn('to be done', output)
            status, output, errors = self.run_command('recover')
            self.assertEqual(0, status, output + errors)
            self.assert_laws_hold(before)
            status, output, errors = self.run_command('recover')
            self.assertEqual(0, status, errors)
            self.assertIn('No snapshot that died', output)

    def test_killed_while_the_backup_job_runs(self) -> None:
        """The domain lacks nothing; its job and its files are left."""
        before = self.before()
        self.bandwidth = 4
        process = self.start(
            *('create', self.guest.name, '--output', self.image),
            *('--method', 'backup'),
        )
        wait_until(
            lambda: any(self.output.glob('*.part')),
            'the disk to be read',
            TIMEOUT,
            interval=0.01,
        )
        process.kill()
        process.wait(TIMEOUT)
        self.assertIn(
            'vda has a block job',
            '\n'.join(
                apart(
                    _broken_laws,
                    self.guest.hypervisor,
                    before,
                    self.directories,
                )
            ),
        )
        self.assertNotEqual([], os.listdir(self.directories.snapshots))

        self.bandwidth = 0
        status, _output, errors = self.run_command(
            'create', self.guest.name, '--output', self.image
        )
        self.assertEqual(0, status, errors)
        self.assert_laws_hold(before)

    def _kill_while_transient(self) -> None:
        process = self.start(
            *('create', self.guest.name, '--output', self.image),
            *('--method', 'mirror'),
        )
        state = Path(self.directories.state)
        wait_until(
            lambda: bool(list(state.glob('*.json'))),
            'the snapshot to begin',
            TIMEOUT,
            interval=0.01,
        )
        # The copy has begun, and is looked at every 0.5 s.
        time.sleep(0.5)
        process.kill()
        process.wait(TIMEOUT)
