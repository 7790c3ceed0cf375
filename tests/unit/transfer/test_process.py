# SPDX-License-Identifier: Apache-2.0
"""The data plane, as the process that it is."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable

import ddt
import fixtures
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.image import GlanceAccess
from nova_snapshot_driver.progress import Progress
from nova_snapshot_driver.progress import silent
from nova_snapshot_driver.transfer import process
from nova_snapshot_driver.transfer.job import view_to_dict
from tests.unit import tables
from tests.unit.fake_glance import broken
from tests.unit.glance_server import GlanceServer
from tests.unit.host import GlanceContext
from tests.unit.transfer import disks
from tests.unit.transfer.commands import Commands

#: What would be a failure of the test, and not of what it tests, in seconds.
PATIENCE = 30

QCOW2 = Encoding('qcow2')

#: What Python runs first of all.
NO_LIBNBD = """\
from nova_snapshot_driver.transfer import libnbd
libnbd.DIRECTORIES = ()
"""

NO_LIMITS = process.Limits()

#: Where the tools of the host are, whatever a test says of that.
PATH = '/usr/sbin:/usr/bin:/sbin:/bin'

#: That of the tests themselves.
NICE = os.nice(0)

#: Says who it is, and never ends by itself.
ENDLESS = 'echo $$ >{}\nexec /bin/sleep 1000'

#: A service that begins an extraction.
SERVICE = """\
import sys
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.progress import silent
from nova_snapshot_driver.transfer import process
image = Layer(sys.argv[1], 'raw')
process.extract(
    image,
    image,
    Encoding('raw'),
    1000,
    process.Limits(),
    silent,
    Cancellation(),
)
"""

#: A service whose job never comes.
UNDECIDED = """\
import time
from nova_snapshot_driver.transfer import process
with process.started('stream', process.Limits()):
    print('started', flush=True)
    time.sleep(1000)
"""

#: A service that begins an upload, and does not say where to.
SPEECHLESS = """\
import pathlib, sys, time
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.progress import silent
from nova_snapshot_driver.transfer import process
def say_nothing():
    (pid,) = (
        pid
        for file in pathlib.Path('/proc/self/task').glob('*/children')
        for pid in file.read_text().split()
    )
    pathlib.Path(sys.argv[2]).write_text(pid)
    time.sleep(1000)
process.upload(
    sys.argv[1],
    'image',
    say_nothing,
    0,
    1000,
    process.Limits(),
    silent,
    Cancellation(),
)
"""


def children(parent: int | str = 'self') -> list[int]:
    """The data planes of a process."""
    pids = []
    for file in pathlib.Path(f'/proc/{parent}/task').glob('*/children'):
        for pid in map(int, file.read_text().split()):
            if b'nova_snapshot_driver.transfer' in command_of(pid):
                pids.append(pid)
    return pids


def command_of(pid: int) -> bytes:
    """The command line of a child; empty if it has ended.

    One that has just been started has none for a moment.
    """
    file = pathlib.Path(f'/proc/{pid}/cmdline')
    deadline = time.monotonic() + PATIENCE
    while not (command := file.read_bytes()) and is_running(pid):
        if time.monotonic() > deadline:
            raise AssertionError(f'{pid} never became a command')
        time.sleep(0.001)
    return command


def is_running(pid: int) -> bool:
    """Whether a process has not ended, be it buried or not."""
    try:
        status = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(')')[2].split()[0] not in ('Z', 'X')


class ProcessCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.commands = self.useFixture(Commands())
        self.root = self.commands.root

    def extract(
        self,
        timeout: int = PATIENCE,
        progress: Progress = silent,
        cancellation: Cancellation | None = None,
        limits: process.Limits = NO_LIMITS,
    ) -> None:
        process.extract(
            Layer(str(self.root / 'delta'), 'qcow2'),
            Layer(str(self.root / 'image'), 'raw'),
            Encoding('raw'),
            timeout,
            limits,
            progress,
            cancellation or Cancellation(),
        )

    def wait_for_pid(self) -> int:
        """Which process the endless one is."""
        return int(self.wait_for(self.root / 'pid'))

    def wait_for(self, file: pathlib.Path) -> str:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if file.exists() and (text := file.read_text()):
                return text
            time.sleep(0.01)
        raise AssertionError(f'{file} never came')

    def wait_until_ended(self, pid: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while is_running(pid):
            self.assertLess(time.monotonic(), deadline, 'it runs on')
            time.sleep(0.01)

    def add_endless(self) -> None:
        self.commands.add('qemu-img', ENDLESS.format(self.root / 'pid'))


class ExtractTest(ProcessCase):
    def test_result_and_progress(self) -> None:
        self.commands.add(
            'qemu-img',
            f"printf '  (50.00/100%%)\\r  (100.00/100%%)\\r'\n"
            f'echo data >{self.root}/image',
        )
        told = []
        self.extract(progress=lambda *step: told.append(step))
        self.assertEqual('data\n', (self.root / 'image').read_text())
        self.assertEqual(('extract', 10000, 10000), told[-1])

    def test_error_comes_over(self) -> None:
        self.commands.add('qemu-img', 'echo "Is it locked?" >&2; exit 1')
        error = self.assertRaises(exception.CommandFailed, self.extract)
        self.assertIn('Is it locked?', str(error))

    def test_command_is_missing(self) -> None:
        error = self.assertRaises(exception.CommandMissing, self.extract)
        self.assertIn('qemu-utils', str(error))


@ddt.ddt
class LimitsTest(ProcessCase):
    """What the process and its children leave to others."""

    def limited(self, limits: process.Limits) -> tuple[str, list[str]]:
        """The niceness and the class of I/O, and the arguments."""
        for name in ('ionice', 'nice'):
            path = shutil.which(name, path=PATH)
            self.commands.add(name, f'exec {path} "$@"')
        self.commands.add(
            'qemu-img',
            f'(nice; ionice) >{self.root}/said\n'
            f'echo "$@" >{self.root}/arguments',
        )
        self.extract(limits=limits)
        return (
            (self.root / 'said').read_text(),
            (self.root / 'arguments').read_text().split(),
        )

    @tables.rows(
        {
            'none': (process.Limits(), f'{NICE}\nnone: prio'),
            'nice': (process.Limits(nice=3), f'{NICE + 3}\nnone: prio'),
            'best_effort': (
                process.Limits(ionice='best-effort'),
                f'{NICE}\nbest-effort: prio 7\n',
            ),
            'both': (
                process.Limits(nice=5, ionice='idle'),
                f'{NICE + 5}\nidle\n',
            ),
        }
    )
    def test_of_the_process(self, limits: process.Limits, said: str) -> None:
        self.assertTrue(self.limited(limits)[0].startswith(said))

    def test_beyond_its_session(self) -> None:
        """Else it would count among its own children alone."""
        if not pathlib.Path('/proc/self/autogroup').exists():
            self.skipTest('this kernel knows no groups of sessions')
        self.commands.add('cat', f'exec {shutil.which("cat", path=PATH)} "$@"')
        self.commands.add(
            'nice', f'exec {shutil.which("nice", path=PATH)} "$@"'
        )
        self.commands.add(
            'qemu-img', f'cat /proc/self/autogroup >{self.root}/said'
        )
        self.extract(limits=process.Limits(nice=3))
        self.assertIn(f' nice {NICE + 3}', (self.root / 'said').read_text())

    def test_bandwidth(self) -> None:
        _, arguments = self.limited(process.Limits(bandwidth=1 << 20))
        self.assertIn('-r 1048576', ' '.join(arguments))

    def test_of_the_configuration(self) -> None:
        loaded = conf.load(
            [],
            [
                ('snapshot', 'bandwidth', 7),
                ('snapshot', 'nice', 5),
                ('snapshot', 'ionice', 'idle'),
            ],
        )
        self.assertEqual(
            process.Limits(7 << 20, 5, 'idle'), process.Limits.of(loaded)
        )

    def test_no_ionice(self) -> None:
        error = self.assertRaises(
            exception.CommandMissing,
            self.extract,
            limits=process.Limits(ionice='idle'),
        )
        self.assertIn('util-linux', str(error))


class WaitingTest(ProcessCase):
    """It is there before its job is, and goes if that never comes."""

    def test_no_job(self) -> None:
        with process.started('stream', NO_LIMITS):
            (pid,) = children()
        self.assertFalse(is_running(pid))

    def test_error_before_the_job(self) -> None:
        with (
            testtools.ExpectedException(KeyError),
            process.started('stream', NO_LIMITS),
        ):
            (pid,) = children()
            raise KeyError
        self.assertFalse(is_running(pid))

    def test_parent_dies(self) -> None:
        service = subprocess.Popen(
            [sys.executable, '-c', UNDECIDED], stdout=subprocess.PIPE
        )
        self.addCleanup(service.wait)
        self.addCleanup(service.kill)
        assert service.stdout is not None
        with service.stdout as output:
            self.assertEqual(b'started\n', output.readline())
        (pid,) = children(service.pid)
        service.send_signal(signal.SIGKILL)
        self.wait_until_ended(pid)

    def test_nothing_is_left_as_soon_as_the_job_is_done(self) -> None:
        """Whoever serves the view need not wait for the end of the context."""
        self.commands.add('qemu-img', 'exit 1')
        view = Layer(str(self.root / 'delta'), 'qcow2')
        with process.started('extract', NO_LIMITS) as data_plane:
            (pid,) = children()
            self.assertRaises(
                exception.CommandFailed,
                data_plane.do,
                {
                    'view': view_to_dict(view),
                    'target': dataclasses.asdict(view),
                    'encoding': dataclasses.asdict(QCOW2),
                },
                PATIENCE,
                'extract_timeout',
                silent,
                Cancellation(),
            )
            self.wait_until_ended(pid)

    def test_died_meanwhile(self) -> None:
        script = self.commands.add('python', 'echo no module >&2; exit 1')
        self.useFixture(
            fixtures.MockPatchObject(sys, 'executable', str(script))
        )
        with process.started('save', NO_LIMITS) as data_plane:
            error = self.assertRaises(
                exception.TransferDied,
                process.save,
                data_plane,
                Layer('-', 'raw'),
                QCOW2,
                '-',
                PATIENCE,
                silent,
                Cancellation(),
            )
        self.assertIn('no module', str(error))


class EndTest(ProcessCase):
    """However it ends, nothing is left of it."""

    def test_killed(self) -> None:
        self.commands.add('qemu-img', 'kill -9 $PPID; exec /bin/sleep 1000')
        error = self.assertRaises(exception.TransferDied, self.extract)
        self.assertIn('exit status -9', str(error))

    def test_cancelled(self) -> None:
        self.add_endless()
        cancellation = Cancellation()
        pids = []

        def cancel() -> None:
            pids.append(self.wait_for_pid())
            cancellation.request('SIGINT')

        thread = threading.Thread(target=cancel)
        thread.start()
        self.assertRaises(
            exception.Cancelled, self.extract, cancellation=cancellation
        )
        thread.join()
        # Not only the process itself, but what it has started.
        self.wait_until_ended(pids.pop())

    def test_timeout(self) -> None:
        self.add_endless()
        error = self.assertRaises(
            exception.TransferTimeout, self.extract, timeout=0
        )
        self.assertEqual('extract_timeout', error.fields['option'])

    def test_parent_dies(self) -> None:
        self.add_endless()
        service = subprocess.Popen(
            [sys.executable, '-c', SERVICE, str(self.root / 'image')]
        )
        self.addCleanup(service.wait)
        self.addCleanup(service.kill)
        pid = self.wait_for_pid()
        service.send_signal(signal.SIGKILL)
        self.wait_until_ended(pid)

    def test_service_is_asked_to_end(self) -> None:
        """systemd asks all of its processes; it waits for the job itself."""
        go = self.root / 'go'
        self.commands.add(
            'qemu-img',
            f'echo $$ >{self.root}/pid\n'
            f'until [ -e {go} ]; do /bin/sleep 0.01; done\n'
            f'echo data >{self.root}/image',
        )

        def ask() -> None:
            os.killpg(os.getpgid(self.wait_for_pid()), signal.SIGTERM)
            go.touch()

        thread = threading.Thread(target=ask)
        thread.start()
        self.extract()
        thread.join()
        self.assertEqual('data\n', (self.root / 'image').read_text())

    def test_stranger_on_its_output(self) -> None:
        """A library that prints something must not make anybody wait."""
        self.useFixture(fixtures.MockPatchObject(threading, 'excepthook'))
        script = self.commands.add('python', 'echo a warning; exit 3')
        self.useFixture(
            fixtures.MockPatchObject(sys, 'executable', str(script))
        )
        self.assertRaises(exception.TransferDied, self.extract, timeout=2)

    def test_output_is_closed_before_the_end(self) -> None:
        script = self.commands.add(
            'python', 'exec >/dev/null; exec /bin/sleep 1000'
        )
        self.useFixture(
            fixtures.MockPatchObject(sys, 'executable', str(script))
        )
        self.assertRaises(exception.TransferDied, self.extract)

    def test_dead_on_arrival(self) -> None:
        script = self.commands.add('python', 'echo no module >&2; exit 1')
        self.useFixture(
            fixtures.MockPatchObject(sys, 'executable', str(script))
        )
        error = self.assertRaises(exception.TransferDied, self.extract)
        self.assertIn('no module', str(error))
        self.assertIn('exit status 1', str(error))


@ddt.ddt
class UploadTest(ProcessCase):
    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        self.server = self.useFixture(GlanceServer())
        self.record = self.server.glance.add(
            disk_format='raw', container_format='bare'
        )
        self.context = GlanceContext(self.server.endpoint)
        self.image = self.root / 'image'
        self.image.write_bytes(b'image')

    def upload(
        self,
        glance_access: Callable[[], GlanceAccess] | None = None,
        cancellation: Cancellation | None = None,
    ) -> str:
        return process.upload(
            str(self.image),
            self.record,
            glance_access or self.context.glance_access,
            0,
            PATIENCE,
            process.Limits(),
            silent,
            cancellation or Cancellation(),
        )

    def tokens(self) -> list[tuple[str, str, str]]:
        """What came of each request for the image itself."""
        return [
            (
                request.method,
                request.headers['x-auth-token'],
                request.headers['x-service-token'],
            )
            for request in self.server.glance.requests
            if self.record in request.path
        ]

    def test_proven_and_nobody_has_seen_a_token(self) -> None:
        seen: list[bytes] = []

        def look(_size: int) -> None:
            for pid in children():
                for secret in ('cmdline', 'environ'):
                    seen.append(
                        pathlib.Path(f'/proc/{pid}', secret).read_bytes()
                    )

        self.server.at_upload = look
        digest = self.upload()
        self.assertEqual(hashlib.sha512(b'image').hexdigest(), digest)
        self.assertIn(b'nova_snapshot_driver.transfer', b''.join(seen))
        for token in ('t0ken', 's3rvice'):
            self.assertNotIn(token.encode(), b''.join(seen))
            self.assertNotIn(token, self.log.output)
        self.assertEqual(
            [
                ('PUT', 't0ken-1', 's3rvice-1'),
                ('GET', 't0ken-2', 's3rvice-2'),
            ],
            self.tokens(),
        )

    def test_answers_are_fresh(self) -> None:
        """The answer is lost: it looks for the image, and then proves it."""
        self.server.glance.late_troubles[1] = broken
        self.upload()
        self.assertEqual(
            [
                ('PUT', 't0ken-1', 's3rvice-1'),
                ('GET', 't0ken-2', 's3rvice-2'),
                ('GET', 't0ken-3', 's3rvice-3'),
            ],
            self.tokens(),
        )

    def test_service_does_not_ask(self) -> None:
        self.upload(lambda: GlanceAccess(self.server.endpoint, token='t0ken'))
        for request in self.server.glance.requests:
            self.assertEqual('t0ken', request.headers['x-auth-token'])
            self.assertNotIn('x-service-token', request.headers)

    def test_nobody_is_there(self) -> None:
        self.context = GlanceContext('http://127.0.0.1:1')
        error = self.assertRaises(exception.UploadFailed, self.upload)
        self.assertEqual(1, error.fields['attempts'])
        for token in ('t0ken', 's3rvice'):
            self.assertNotIn(token, str(error))
            self.assertNotIn(token, self.log.output)

    def no_way_to_glance(
        self, trouble: Exception, number: int, raised: type[Exception]
    ) -> Exception:
        """What is raised where an answer is an error."""
        self.context.troubles[number] = trouble
        pids: list[int] = []

        def glance_access() -> GlanceAccess:
            pids.extend(children())
            return self.context.glance_access()

        error = self.assertRaises(raised, self.upload, glance_access)
        self.assertEqual(number, self.context.accesses)
        self.assertEqual(number - 1, len(self.tokens()))
        self.assertEqual([], [pid for pid in pids if is_running(pid)])
        self.assertNotEqual([], pids)
        assert isinstance(error, Exception)
        return error

    @tables.rows({'upload': (1,), 'proof': (2,)})
    def test_keystone_is_away(self, number: int) -> None:
        """There are no retries: the job gives up, and says why."""
        away = exception.KeystoneUnavailable(reason='it is away')
        error = self.no_way_to_glance(away, number, exception.UploadFailed)
        assert isinstance(error, exception.UploadFailed)
        self.assertEqual(self.record, error.fields['image'])
        self.assertEqual(1, error.fields['attempts'])
        self.assertEqual(str(away), error.fields['reason'])

    def test_other_error(self) -> None:
        """It comes back from the job as it went there."""
        no_cloud = exception.NoCloud(reason='it has none')
        error = self.no_way_to_glance(no_cloud, 1, exception.NoCloud)
        assert isinstance(error, exception.NoCloud)
        self.assertEqual(no_cloud.to_dict(), error.to_dict())

    @tables.rows({'upload': (1,), 'proof': (2,)})
    def test_bug_of_the_parent(self, number: int) -> None:
        """Whoever asks for the snapshot gets it as it was raised."""
        bug = KeyError('token')
        self.assertIs(bug, self.no_way_to_glance(bug, number, KeyError))

    def hangs(
        self,
        meanwhile: Callable[[], None],
        raised: type[Exception],
        cancellation: Cancellation | None = None,
    ) -> Exception:
        """Have Keystone silent until the upload has been given up.

        :param meanwhile: what happens then
        """
        silence = threading.Event()
        self.addCleanup(silence.set)
        threads: list[threading.Thread] = []
        pids: list[int] = []
        excepthook = self.useFixture(
            fixtures.MockPatchObject(threading, 'excepthook')
        ).mock

        def glance_access() -> GlanceAccess:
            threads.append(threading.current_thread())
            pids.extend(children())
            meanwhile()
            silence.wait(PATIENCE)
            return self.context.glance_access()

        error = self.assertRaises(
            raised, self.upload, glance_access, cancellation
        )
        (thread,) = threads
        self.assertTrue(thread.is_alive(), 'it was waited for')
        (pid,) = pids
        self.assertFalse(is_running(pid))
        silence.set()
        thread.join(PATIENCE)
        self.assertFalse(thread.is_alive())
        self.assertEqual([], excepthook.mock_calls)
        self.assertEqual([], self.tokens())
        assert isinstance(error, Exception)
        return error

    def test_cancelled_while_keystone_is_silent(self) -> None:
        cancellation = Cancellation()
        error = self.hangs(
            lambda: cancellation.request('SIGINT'),
            exception.Cancelled,
            cancellation=cancellation,
        )
        self.assertIn('SIGINT', str(error))

    def test_timeout_while_keystone_is_silent(self) -> None:
        now = [0.0]
        self.useFixture(
            fixtures.MockPatchObject(
                process,
                'time',
                types.SimpleNamespace(monotonic=lambda: now[0]),
            )
        )

        def let_time_pass() -> None:
            now[0] += PATIENCE + 1

        error = self.hangs(let_time_pass, exception.TransferTimeout)
        assert isinstance(error, exception.TransferTimeout)
        self.assertEqual('upload_timeout', error.fields['option'])

    def test_parent_dies_before_it_has_answered(self) -> None:
        service = subprocess.Popen(
            [
                *(sys.executable, '-c', SPEECHLESS),
                *(str(self.image), str(self.root / 'asked')),
            ]
        )
        self.addCleanup(service.wait)
        self.addCleanup(service.kill)
        pid = int(self.wait_for(self.root / 'asked'))
        self.assertTrue(is_running(pid))
        service.send_signal(signal.SIGKILL)
        self.wait_until_ended(pid)

    def test_bug(self) -> None:
        self.image.unlink()
        error = self.assertRaises(exception.TransferDied, self.upload)
        self.assertIn('FileNotFoundError', str(error))


class OnePassTest(ProcessCase):
    """From a real disk, in a process of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.EnvironmentVariable('PATH', PATH))
        self.disks = self.useFixture(disks.Disks())
        self.disk = self.disks.raw(32 << 20, [(0, disks.noise(20 << 20))])
        self.server = self.useFixture(GlanceServer())
        self.record = self.server.glance.add(
            disk_format='qcow2', container_format='bare'
        )
        self.context = GlanceContext(self.server.endpoint)

    def stream(
        self,
        encoding: Encoding = QCOW2,
        cancellation: Cancellation | None = None,
        progress: Progress = silent,
    ) -> process.Sent:
        with process.started('stream', NO_LIMITS) as data_plane:
            return process.stream(
                data_plane,
                self.disk,
                encoding,
                self.record,
                self.context.glance_access,
                0,
                PATIENCE,
                progress,
                cancellation or Cancellation(),
            )

    def test_stream(self) -> None:
        told = []
        sent = self.stream(progress=lambda *step: told.append(step))
        content = self.server.glance.content[self.record]
        self.assertEqual(
            process.Sent(len(content), hashlib.sha512(content).hexdigest()),
            sent,
        )
        self.assertEqual(('stream', len(content), len(content)), told[-1])

    def test_save(self) -> None:
        path = self.root / 'image'
        with process.started('save', NO_LIMITS) as data_plane:
            size = process.save(
                data_plane,
                self.disk,
                Encoding('qcow2', 'zstd'),
                str(path),
                PATIENCE,
                silent,
                Cancellation(),
            )
        self.assertEqual(path.stat().st_size, size)
        disks.assert_same(self.disk, Layer(str(path), 'qcow2'))

    def test_extract_of_an_export(self) -> None:
        path = self.root / 'image'
        process.extract(
            self.disks.serve(self.disk),
            Layer(str(path), 'vmdk'),
            Encoding('vmdk'),
            PATIENCE,
            NO_LIMITS,
            silent,
            Cancellation(),
        )
        disks.assert_same(self.disk, Layer(str(path), 'vmdk'))

    def test_nothing_is_left(self) -> None:
        """Of the server that it has started."""
        cancellation = Cancellation()
        servers: list[int] = []

        def at_upload(_size: int) -> None:
            servers.extend(
                int(pid)
                for plane in children()
                for file in pathlib.Path(f'/proc/{plane}/task').glob(
                    '*/children'
                )
                for pid in file.read_text().split()
            )
            cancellation.request('SIGINT')
            time.sleep(0.1)

        self.server.at_upload = at_upload
        self.assertRaises(
            exception.Cancelled, self.stream, cancellation=cancellation
        )
        self.assertNotEqual([], servers)
        self.wait_until_ended(servers[0])

    def test_no_libnbd(self) -> None:
        (self.root / 'sitecustomize.py').write_text(NO_LIBNBD)
        self.useFixture(
            fixtures.EnvironmentVariable(
                'PYTHONPATH',
                os.pathsep.join(
                    [str(self.root), os.environ.get('PYTHONPATH', '')]
                ),
            )
        )
        self.assertRaises(exception.LibnbdMissing, self.stream)
        self.assertEqual([], self.server.glance.requests)


class GroupTest(testtools.TestCase):
    def test_running(self) -> None:
        """What the tests build on."""
        self.assertTrue(is_running(os.getpid()))
        child = subprocess.Popen([sys.executable, '-c', ''])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self.assertFalse(is_running(child.pid))
        child.wait()
        self.assertFalse(is_running(child.pid))
