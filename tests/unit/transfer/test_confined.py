# SPDX-License-Identifier: Apache-2.0
"""The reach of the data plane, seen from in and out of it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import ddt
import fixtures
import testtools

from nova_snapshot_driver.common import children
from nova_snapshot_driver.common import landlock
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import Server
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.common.view import Volume
from nova_snapshot_driver.state import watchdog
from nova_snapshot_driver.transfer import confined
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs.job import AnyJob
from nova_snapshot_driver.transfer.jobs.job import Extract
from nova_snapshot_driver.transfer.jobs.job import Hash
from nova_snapshot_driver.transfer.jobs.job import Increment
from nova_snapshot_driver.transfer.jobs.job import Restore
from nova_snapshot_driver.transfer.jobs.job import Save
from nova_snapshot_driver.transfer.jobs.job import Stream
from nova_snapshot_driver.transfer.jobs.job import Update
from nova_snapshot_driver.transfer.jobs.job import Upload
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.jobs.job_fields import Base
from tests.unit import tables

PATIENCE = 30

DATA_PLANE = (sys.executable, '-P', '-m', 'nova_snapshot_driver.transfer')

DAC_OVERRIDE = 1 << 1

#: The capabilities that root keeps in a watchdog.
CHOWN_DAC_OVERRIDE_AND_FOWNER = 1 << 0 | DAC_OVERRIDE | 1 << 3

#: Tries what it is told to, confined to a job.
PROGRAM = """\
import json, os, socket, subprocess, sys
from nova_snapshot_driver.transfer import confined
from nova_snapshot_driver.transfer.jobs.job import KINDS
kind, job, tries = json.loads(sys.argv[1])
confined.at_the_start()
confined.to(KINDS[kind].from_dict(job))
def write(path):
    with open(path, 'w') as file:
        file.write('x')
def read(path):
    with open(path, 'rb') as file:
        file.read(1)
def run(path):
    subprocess.run([path], check=True)
def listen(_path):
    with socket.socket() as tcp:
        tcp.bind(('127.0.0.1', 0))
def resolve(path):
    socket.getaddrinfo(path, 80)
def load(path):
    __import__(path)
def allocate(size):
    bytearray(int(size))
said = []
for what, path in tries:
    try:
        globals()[what](path)
    except (OSError, MemoryError) as error:
        said.append(type(error).__name__)
    else:
        said.append('')
print(json.dumps(said))
"""

REFUSED = 'PermissionError'

RAW = Encoding('raw')


def status(pid: int) -> dict[str, str]:
    text = pathlib.Path(f'/proc/{pid}/status').read_text()
    return dict(line.split(':\t', 1) for line in text.splitlines())


def core_limits(pid: int) -> list[str]:
    """The soft one and the hard one."""
    (line,) = (
        line
        for line in pathlib.Path(f'/proc/{pid}/limits')
        .read_text()
        .splitlines()
        if line.startswith('Max core file size')
    )
    return line.split()[4:6]


class ProcessTest(testtools.TestCase):
    """The processes that run, as the kernel describes them."""

    def setUp(self) -> None:
        super().setUp()
        # Root may look into each process anyway.
        self.who: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam('nobody')
            self.who = {
                'user': nobody.pw_uid,
                'group': nobody.pw_gid,
                'extra_groups': (),
            }

    @contextlib.contextmanager
    def running(self, *command: str, **who: Any) -> Iterator[int]:
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=children.environment(),
            start_new_session=True,
            **who,
        ) as started:
            try:
                self.wait_for_the_last_step(started.pid)
                yield started.pid
            finally:
                started.kill()

    def wait_for_the_last_step(self, pid: int) -> None:
        deadline = time.monotonic() + PATIENCE
        # The effective capabilities go after those of the bounding set.
        while (
            status(pid)['NoNewPrivs'] != '1'
            or int(status(pid)['CapEff'], 16) & 1 << 21
        ):
            self.assertLess(time.monotonic(), deadline, status(pid))
            time.sleep(0.01)

    def assert_confined(self, pid: int, root_keeps: int) -> None:
        said = status(pid)
        kept = root_keeps if os.geteuid() == 0 else 0
        for kind in ('CapEff', 'CapPrm', 'CapBnd'):
            self.assertEqual(0, int(said[kind], 16) & ~kept, kind)
        for kind in ('CapInh', 'CapAmb'):
            self.assertEqual(0, int(said[kind], 16), kind)
        self.assertEqual(['0', '0'], core_limits(pid))

    def test_data_plane_of_root(self) -> None:
        if os.geteuid() != 0:
            self.skipTest('this is another user')
        with self.running(*DATA_PLANE, 'stream') as pid:
            self.assert_confined(pid, DAC_OVERRIDE)

    def test_watchdog_of_root(self) -> None:
        if os.geteuid() != 0:
            self.skipTest('this is another user')
        with self.running(*watchdog.COMMAND) as pid:
            self.assert_confined(pid, CHOWN_DAC_OVERRIDE_AND_FOWNER)

    def test_data_plane_of_another(self) -> None:
        with self.running(*DATA_PLANE, 'stream', **self.who) as pid:
            self.assert_of_another(pid)

    def test_watchdog_of_another(self) -> None:
        with self.running(*watchdog.COMMAND, **self.who) as pid:
            self.assert_of_another(pid)

    def assert_of_another(self, pid: int) -> None:
        """No capability is left, and its own user can't look into it."""
        said = status(pid)
        self.assertEqual(0, int(said['CapEff'], 16))
        self.assertEqual(0, int(said['CapPrm'], 16))
        self.assertEqual(0, os.stat(f'/proc/{pid}/environ').st_uid)
        self.assertEqual(['0', '0'], core_limits(pid))

    def test_no_password_in_the_environment(self) -> None:
        self.useFixture(
            fixtures.EnvironmentVariable('OS_PASSWORD', 'the password')
        )
        with data_plane.started(
            Stream, data_plane.Limits(PATIENCE), silent, Cancellation()
        ) as process:
            pid = process._process.pid
            self.wait_for_the_last_step(pid)
            environment = pathlib.Path(f'/proc/{pid}/environ')
            if os.geteuid() == 0:
                self.assertNotIn(b'the password', environment.read_bytes())
            else:
                self.assertRaises(PermissionError, environment.read_bytes)


@ddt.ddt
class JobTest(testtools.TestCase):
    """Attempts of a job to leave its reach."""

    def setUp(self) -> None:
        super().setUp()
        if not landlock.version():
            self.skipTest('this kernel has no Landlock')
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        for name in ('own', 'output', 'other'):
            (self.root / name).mkdir()
            (self.root / name / 'file').write_text('')
        self.export = Export(
            '/s', 'vda', 512, Inode(0, 0), Server(None, ('-k', '/s'))
        )
        self.layer = Layer(self.path('other', 'file'), 'raw')

    def stream(self, view: View, *files: str) -> Stream:
        return Stream(view, RAW, 'image', files, 0, self.path('own'))

    def upload(self) -> Upload:
        return Upload(self.path('output', 'file'), 'image', (), 0)

    def path(self, *names: str) -> str:
        return str(self.root.joinpath(*names))

    def tried(
        self,
        job: AnyJob,
        *tries: tuple[str, str],
        **environment: str,
    ) -> list[str]:
        """The error of each attempt; empty where there was none."""
        said = subprocess.run(
            [
                sys.executable,
                '-c',
                PROGRAM,
                json.dumps([job.kind, job.to_dict(), tries]),
            ],
            env=children.environment(**environment),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual('', said.stderr)
        result: list[str] = json.loads(said.stdout)
        return result

    def test_stream_of_an_export(self) -> None:
        said = self.tried(
            self.stream(self.export, self.path('output', 'file')),
            ('write', self.path('own', 'spilled')),
            ('read', self.path('output', 'file')),
            ('load', 'encodings.idna'),
            ('load', 'zstandard'),
            ('resolve', 'localhost'),
            ('write', self.path('other', 'file')),
            ('write', self.path('output', 'file')),
            ('write', self.path('output', 'new')),
            ('read', self.path('other', 'file')),
            ('read', '/etc/shadow'),
            ('read', '/etc/passwd'),
            ('listen', ''),
        )
        self.assertEqual([''] * 5 + [REFUSED] * 7, said)

    def test_certificates_of_the_environment(self) -> None:
        said = self.tried(
            self.stream(self.export),
            ('read', self.path('other', 'file')),
            REQUESTS_CA_BUNDLE=self.path('other', 'file'),
        )
        self.assertEqual([''], said)

    def test_save_of_an_export(self) -> None:
        said = self.tried(
            Save(
                self.export,
                RAW,
                self.path('output', 'image'),
                self.path('own'),
            ),
            ('write', self.path('output', 'image')),
            ('write', self.path('other', 'file')),
            ('read', self.path('other', 'file')),
        )
        self.assertEqual(['', REFUSED, REFUSED], said)

    def test_layer(self) -> None:
        """An image may lie on others, and a tool opens it."""
        said = self.tried(
            self.stream(self.layer),
            ('read', self.path('other', 'file')),
            ('run', '/bin/true'),
            ('write', self.path('other', 'file')),
            ('write', self.path('output', 'new')),
        )
        self.assertEqual(['', '', REFUSED, REFUSED], said)

    def test_increment(self) -> None:
        """Only what lies in the chain, and of that only the leaves."""
        said = self.tried(
            Increment(
                self.export,
                Base(512, self.path('other', 'file'), 'tree'),
                'a.qcow2',
                self.path('output', 'b.qcow2'),
                self.path('output', 'b.leaves'),
                self.path('own'),
            ),
            ('read', self.path('other', 'file')),
            ('write', self.path('output', 'b.qcow2')),
            ('write', self.path('own', 'new')),
            ('write', self.path('other', 'file')),
            ('read', '/etc/passwd'),
        )
        self.assertEqual(['', '', '', REFUSED, REFUSED], said)

    def test_update(self) -> None:
        """A volume is written by a tool, which needs no other file."""
        volume = Volume('volumes', 'v', 512, (), 'cinder')
        said = self.tried(
            Update(
                self.export,
                Base(512, self.path('other', 'file'), 'tree'),
                volume,
                self.path('output', 'leaves'),
                self.path('own'),
            ),
            ('read', self.path('other', 'file')),
            ('run', '/bin/true'),
            ('write', self.path('output', 'leaves')),
            ('write', self.path('own', 'new')),
            ('write', self.path('other', 'file')),
            ('read', '/etc/passwd'),
        )
        self.assertEqual(['', '', '', '', REFUSED, REFUSED], said)

    @tables.rows(
        {
            'hash': (Hash, {}, ''),
            'verify': (
                Verify,
                {'tree': 't', 'size': 512, 'base_leaves': None},
                REFUSED,
            ),
            'restore': (
                Restore,
                {'tree': 't', 'size': 512, 'format': 'raw'},
                '',
            ),
        }
    )
    def test_chain(
        self, kind: Any, fields: dict[str, Any], writes: str
    ) -> None:
        """The header of an image may name a file that is not of the chain."""
        (self.root / 'other' / 'more').touch()
        beneath = Layer(self.path('own', 'file'), 'qcow2', is_last=True)
        if kind is Restore:
            fields = {**fields, 'path': self.path('output', 'image')}
        said = self.tried(
            kind(
                view=Layer(self.path('other', 'file'), 'qcow2', None, beneath),
                leaves=self.path('output', 'leaves'),
                directory=self.path('own'),
                **fields,
            ),
            ('read', self.path('other', 'file')),
            ('read', self.path('own', 'file')),
            ('run', '/bin/true'),
            ('write', self.path('output', 'image')),
            ('read', self.path('other', 'more')),
            ('read', '/etc/passwd'),
            ('write', self.path('other', 'file')),
        )
        self.assertEqual(['', '', '', writes, *[REFUSED] * 3], said)

    def test_extract(self) -> None:
        said = self.tried(
            Extract(self.export, RAW, self.path('output', 'i')),
            ('run', '/bin/true'),
            ('write', self.path('output', 'i')),
            ('write', self.path('other', 'file')),
            ('read', self.path('other', 'file')),
        )
        self.assertEqual(['', '', REFUSED, REFUSED], said)

    def test_upload(self) -> None:
        said = self.tried(
            self.upload(),
            ('read', self.path('output', 'file')),
            ('write', self.path('output', 'file')),
            ('read', self.path('other', 'file')),
        )
        self.assertEqual(['', REFUSED, REFUSED], said)

    def test_memory(self) -> None:
        said = self.tried(
            self.upload(),
            ('allocate', str(confined.MEMORY // 2)),
            ('allocate', str(confined.MEMORY)),
        )
        self.assertEqual(['', 'MemoryError'], said)


class VersionTest(testtools.TestCase):
    def test_kernel_without(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(landlock, 'version', lambda: 0)
        )
        self.assertFalse(landlock.restrict([], []))
