# SPDX-License-Identifier: Apache-2.0
"""Snapshots by the command, in what a shell and an operator may give it.

QEMU is a user of its own, as on a host of Nova.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from typing import ClassVar

import ddt
from oslotest import base

from lab.apart import apart
from lab.bounded import run
from lab.disks import Layer
from lab.hypervisor import Hypervisor
from tests import laws
from tests.functional.machine import machine_xml
from tests.functional.small_file_system import SmallFileSystem
from tests.unit import tables

#: Seconds
TIMEOUT = 120

MIB = 1 << 20

#: The names of QEMU's user, by distribution.
QEMU_USERS = ('libvirt-qemu', 'qemu')

NAME = 'surroundings'

UNWRITTEN = 3

PATHS = ('backup', 'mirror')


def _start(hypervisor: Hypervisor, xml: str) -> None:
    hypervisor.connection.defineXML(xml).create()


def _before(hypervisor: Hypervisor) -> laws.Before:
    return laws.Before.of(hypervisor.connection, NAME)


def _broken_laws(
    hypervisor: Hypervisor, before: laws.Before, directories: laws.Directories
) -> list[str]:
    return laws.differences(hypervisor.connection, before, directories)


def _user() -> str | None:
    for name in QEMU_USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


class SurroundingsCase(base.BaseTestCase):
    """A running machine, and commands in directories of their own."""

    root: ClassVar[Path]
    hypervisor: ClassVar[Hypervisor]
    disk: ClassVar[Layer]
    before: ClassVar[laws.Before]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        user = _user()
        if os.geteuid() != 0 or user is None:
            raise cls.skipException('root alone has QEMU as another user')
        # The lab may lie where QEMU can't come.
        root = Path(tempfile.mkdtemp(dir='/var/tmp'))
        cls.addClassCleanup(shutil.rmtree, root)
        root.chmod(0o711)
        cls.hypervisor = Hypervisor(root / 'hv', user)
        cls.disk = Layer(root / 'disk', 'qcow2')
        cls.root = root
        run(
            ['qemu-img', 'create', '-q', '-f', 'qcow2', cls.disk.path, '32M'],
            timeout=TIMEOUT,
        )
        run(
            [
                *('qemu-io', '-f', 'qcow2', '-c', 'write -P 7 1M 9M'),
                cls.disk.path,
            ],
            timeout=TIMEOUT,
        )
        cls.addClassCleanup(apart, cls.hypervisor.clear)
        apart(cls.hypervisor.learn_of_qemu)
        apart(_start, cls.hypervisor, machine_xml(NAME, cls.disk))
        cls.before = apart(_before, cls.hypervisor)

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(tempfile.mkdtemp(dir=self.root))
        self.addCleanup(shutil.rmtree, self.directory)
        self.directory.chmod(0o711)
        self.output = self.directory / 'output'
        self.output.mkdir()
        self.image = self.output / 'image'
        self.snapshots = self.directory / 'above' / 'snapshots'
        self.directories = laws.Directories(
            str(self.snapshots),
            str(self.directory / 'state'),
            str(self.output),
        )
        self.temporary = self.directory / 'temporary'
        self.temporary.mkdir()

    def command(
        self,
        *arguments: str | Path,
        before: str = '',
        redirection: str = '',
        stdout: int = subprocess.PIPE,
    ) -> tuple[int, str, str]:
        """Exit status, output and errors of a command in a shell."""
        command = shlex.join(
            str(word)
            for word in (
                *(sys.executable, '-m', 'nova_snapshot_driver.cmd.main'),
                *arguments,
                *('--config-file', os.devnull),
                *('--connect', self.hypervisor.uri),
                *('--snapshots-directory', self.snapshots),
                *('--state-directory', self.directories.state),
            )
        )
        done = subprocess.run(
            ['bash', '-c', f'{before}\n{command} {redirection}'],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={
                **{
                    name: value
                    for name, value in os.environ.items()
                    if not name.startswith('OS_')
                },
                'TMPDIR': str(self.temporary),
            },
            timeout=TIMEOUT,
        )
        self.assertEqual([], list(self.temporary.iterdir()))
        output, errors = (done.stdout or b'').decode(), done.stderr.decode()
        self.assertNotIn('Traceback', output + errors)
        return done.returncode, output, errors

    def create(
        self, *arguments: str | Path, **how: Any
    ) -> tuple[int, str, str]:
        """Take a snapshot; whatever it comes to, the laws hold."""
        result = self.command(
            'create', NAME, '--output', self.image, *arguments, **how
        )
        self.assertEqual(
            [],
            apart(
                _broken_laws, self.hypervisor, self.before, self.directories
            ),
        )
        return result

    def assert_complete(self) -> None:
        """The image is the disk."""
        run(
            [
                *('qemu-img', 'compare', '-U', '-f', 'qcow2', '-F', 'qcow2'),
                *(self.disk.path, self.image),
            ],
            timeout=TIMEOUT,
        )
        self.image.unlink()


@ddt.ddt
class QemuUserTest(SurroundingsCase):
    """Directories that QEMU has to pass, and may not."""

    @tables.rows({mask: (mask,) for mask in ('022', '027', '077')})
    def test_umask(self, mask: str) -> None:
        for path in PATHS:
            status, _output, errors = self.create(
                '--method', path, before=f'umask {mask}'
            )
            self.assertEqual(0, status, errors)
            self.assert_complete()
        for directory in (self.snapshots, self.snapshots.parent):
            self.assertEqual(0o711, directory.stat().st_mode & 0o777)
            shutil.rmtree(directory)

    @tables.rows({path: (path,) for path in ('auto', *PATHS)})
    def test_shut(self, path: str) -> None:
        self.snapshots.mkdir(parents=True)
        for shut in (self.snapshots, self.snapshots.parent):
            shut.chmod(0o750)
            status, output, errors = self.create(
                *('--method', path, '--format', 'json')
            )
            self.assertEqual(1, status, errors)
            error = json.loads(output)['error']
            self.assertEqual('directory-shut', error['code'])
            fields = error['fields']
            self.assertEqual(str(shut), fields['directory'])
            self.assertEqual('0750', fields['mode'])
            self.assertEqual(_user(), fields['user'])
            # The remedy that is told is one.
            run(['chmod', fields['bit'], fields['directory']], timeout=TIMEOUT)
        status, _output, errors = self.create('--method', path)
        self.assertEqual(0, status, errors)
        self.assert_complete()

    def test_cold_needs_nothing_of_qemu(self) -> None:
        self.snapshots.mkdir(parents=True)
        self.snapshots.chmod(0o700)
        status, _output, errors = self.create('--method', 'cold')
        self.assertEqual(0, status, errors)
        self.assert_complete()

    def test_check(self) -> None:
        self.snapshots.mkdir(parents=True)
        for mode, verdict in ((0o711, 'SUCCESS'), (0o700, 'FAILURE')):
            self.snapshots.chmod(mode)
            _status, output, errors = self.command(
                'check', NAME, '--format', 'json'
            )
            verdicts = {
                found['subject']: found['verdict']
                for found in json.loads(output)
            }
            for subject in ('QEMU: directories', f'Domain {NAME}'):
                self.assertEqual(verdict, verdicts[subject], errors)


@ddt.ddt
class StreamsTest(SurroundingsCase):
    """A complete snapshot stays complete, whoever reads the output."""

    @tables.rows(
        {
            'output_closed': ('>&-',),
            'output_full': ('>/dev/full',),
            'all_closed': ('<&- >&- 2>&-',),
            'all_full': ('>/dev/full 2>&1',),
        }
    )
    def test_output(self, redirection: str) -> None:
        status, _output, errors = self.create(redirection=redirection)
        self.assertEqual(UNWRITTEN, status, errors)
        self.assert_complete()

    def test_nobody_reads(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        self.addCleanup(os.close, writer)
        status, _output, errors = self.create(
            '--format', 'json', stdout=writer
        )
        self.assertEqual(UNWRITTEN, status, errors)
        self.assertIn(f'"file": "{self.image}"', errors)
        self.assert_complete()

    @tables.rows(
        {
            'errors_closed': ('', '2>&-'),
            'input_closed': ('', '<&-'),
            'locale': ('export LC_ALL=C PYTHONIOENCODING=ascii', ''),
            'no_home': ('unset HOME TERM', ''),
            'temporary_directory': ('export TMPDIR=/nowhere', ''),
            'directory_is_gone': ('cd $(mktemp -d) && rmdir $PWD', ''),
            'nohup': ('trap "" HUP; (sleep 1; kill -HUP $$) &', ''),
            'background': ('trap "" INT; (sleep 1; kill -INT $$) &', ''),
            'children': ('trap "" CHLD', ''),
            'umask': ('umask 777', ''),
            'few_files': ('ulimit -n 64', ''),
        }
    )
    def test_succeeds(self, before: str, redirection: str) -> None:
        status, output, errors = self.create(
            before=before, redirection=redirection
        )
        self.assertEqual(0, status, errors)
        self.assertIn(NAME, output)
        self.assert_complete()

    @tables.rows(
        {
            'streamed': (('--image-format', 'qcow2'),),
            'converted': (('--image-format', 'vmdk'),),
        }
    )
    def test_limit_of_a_file(self, arguments: tuple[str, ...]) -> None:
        """The image is larger than what the shell allows."""
        status, _output, errors = self.create(
            *arguments, before='ulimit -f 2048'
        )
        self.assertEqual(1, status, errors)
        self.assertEqual([], list(self.output.iterdir()))

    def test_small_output(self) -> None:
        small = self.useFixture(SmallFileSystem(self.directory / 'small', 4))
        self.image = small.mount_point / 'image'
        status, output, errors = self.create('--format', 'json')
        self.assertEqual(1, status, errors)
        fields = json.loads(output)['error']['fields']
        self.assertEqual('--output', fields['option'])
        self.assertEqual(str(small.mount_point), fields['directory'])
