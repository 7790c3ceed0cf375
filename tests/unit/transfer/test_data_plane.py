# SPDX-License-Identifier: Apache-2.0
"""The data plane, as the process that it is."""

from __future__ import annotations

import contextlib
import hashlib
import json
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
from typing import Any

import ddt
import fixtures
import hypothesis
import testtools
from hypothesis import strategies

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs.job import Extract
from nova_snapshot_driver.transfer.jobs.job import Job
from nova_snapshot_driver.transfer.jobs.job import Save
from nova_snapshot_driver.transfer.jobs.job import Sent
from nova_snapshot_driver.transfer.jobs.job import Stream
from nova_snapshot_driver.transfer.jobs.job import Upload
from tests import exhaustive
from tests.unit import tables
from tests.unit.fake_glance import broken
from tests.unit.glance_server import GlanceServer
from tests.unit.host import GlanceContext
from tests.unit.test_bad_input import JSON
from tests.unit.transfer import disks
from tests.unit.transfer.commands import Commands

#: The seconds after which the test itself is at fault.
PATIENCE = 30

QCOW2 = Encoding('qcow2')

#: The module that Python runs first of all.
NO_LIBNBD = """\
from nova_snapshot_driver.transfer.nbd import libnbd
libnbd.DIRECTORIES = ()
"""

NO_LIMITS = data_plane.Limits(PATIENCE)

#: Where the tools of the host are, whatever a test says of that.
PATH = '/usr/sbin:/usr/bin:/sbin:/bin'

#: The niceness of the tests themselves.
NICE = os.nice(0)

#: The highest niceness that the kernel knows.
NICEST = 19

#: Says who it is, and never ends by itself.
ENDLESS = 'echo $$ >{}\nexec /bin/sleep 1000'

#: A service that begins an extraction.
SERVICE = """\
import sys
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.jobs.job import Extract
image = Layer(sys.argv[1], 'raw')
data_plane.run(
    Extract(image, Encoding('raw'), image.path),
    data_plane.Limits(1000),
    silent,
    Cancellation(),
)
"""

#: A service whose job never comes.
UNDECIDED = """\
import time
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.jobs.job import Stream
limits = data_plane.Limits(1000)
with data_plane.started(Stream, limits, silent, Cancellation()):
    print('started', flush=True)
    time.sleep(1000)
"""

#: A service that begins an upload, and does not say where to.
SPEECHLESS = """\
import pathlib, sys, time
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.jobs.job import Upload
def say_nothing():
    (pid,) = (
        pid
        for file in pathlib.Path('/proc/self/task').glob('*/children')
        for pid in file.read_text().split()
    )
    pathlib.Path(sys.argv[2]).write_text(pid)
    time.sleep(1000)
data_plane.run(
    Upload(sys.argv[1], 'image', (), 0),
    data_plane.Limits(1000),
    silent,
    Cancellation(),
    say_nothing,
)
"""


def nicer(by: int) -> int:
    return min(NICE + by, NICEST)


def limits(timeout: int = PATIENCE, **others: Any) -> data_plane.Limits:
    return data_plane.Limits(timeout, **others)


def started(
    kind: type[Job[Any]],
) -> contextlib.AbstractContextManager[data_plane.DataPlane]:
    return data_plane.started(kind, NO_LIMITS, silent, Cancellation())


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
        progress: Progress = silent,
        cancellation: Cancellation | None = None,
        limits: data_plane.Limits = NO_LIMITS,
    ) -> None:
        data_plane.run(
            self.extraction(),
            limits,
            progress,
            cancellation or Cancellation(),
        )

    def extraction(self) -> Extract:
        return Extract(
            Layer(str(self.root / 'delta'), 'qcow2'),
            Encoding('raw'),
            str(self.root / 'image'),
        )

    def wait_for_pid(self) -> int:
        """The process id of the endless program."""
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
    """The resources that the process and its children leave to others."""

    def limited(self, limits: data_plane.Limits) -> tuple[str, list[str]]:
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
            'none': (NO_LIMITS, f'{NICE}\nnone: prio'),
            'nice': (limits(nice=3), f'{nicer(3)}\nnone: prio'),
            'best_effort': (
                limits(ionice='best-effort'),
                f'{NICE}\nbest-effort: prio 7\n',
            ),
            'both': (
                limits(nice=5, ionice='idle'),
                f'{nicer(5)}\nidle\n',
            ),
        }
    )
    def test_of_the_process(
        self, limits: data_plane.Limits, said: str
    ) -> None:
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
        self.extract(limits=limits(nice=3))
        self.assertIn(f' nice {nicer(3)}', (self.root / 'said').read_text())

    def test_bandwidth(self) -> None:
        _, arguments = self.limited(limits(bandwidth=1 << 20))
        self.assertIn('-r 1048576', ' '.join(arguments))

    def test_of_the_configuration(self) -> None:
        loaded = conf.load(
            [],
            [
                ('snapshot', 'bandwidth', 7),
                ('snapshot', 'nice', 5),
                ('snapshot', 'ionice', 'idle'),
                ('snapshot', 'source_timeout', 50),
                ('snapshot', 'least_rate', 3),
                ('snapshot', 'upload_timeout', 100),
            ],
        )
        self.assertEqual(
            data_plane.Limits(100, 7 << 20, 5, 'idle', 50, 3 << 10),
            data_plane.Limits.of(conf.read_settings(loaded).transfer, Stream),
        )

    def test_no_ionice(self) -> None:
        error = self.assertRaises(
            exception.CommandMissing,
            self.extract,
            limits=limits(ionice='idle'),
        )
        self.assertIn('util-linux', str(error))


class WaitingTest(ProcessCase):
    """The process is there before its job, and goes if that never comes."""

    def test_no_job(self) -> None:
        with started(Stream):
            (pid,) = children()
        self.assertFalse(is_running(pid))

    def test_error_before_the_job(self) -> None:
        with (
            testtools.ExpectedException(KeyError),
            started(Stream),
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
        """The server of the view need not wait for the end of the context."""
        self.commands.add('qemu-img', 'exit 1')
        with started(Extract) as process:
            (pid,) = children()
            self.assertRaises(
                exception.CommandFailed,
                process.run,
                self.extraction(),
            )
            self.wait_until_ended(pid)

    def test_died_meanwhile(self) -> None:
        script = self.commands.add('python', 'echo no module >&2; exit 1')
        self.useFixture(
            fixtures.MockPatchObject(sys, 'executable', str(script))
        )
        with started(Save) as process:
            error = self.assertRaises(
                exception.TransferDied,
                process.run,
                Save(Layer('-', 'raw'), QCOW2, '-', '-'),
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
            exception.TransferTimeout, self.extract, limits=limits(0)
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
        self.assertRaises(
            exception.TransferDied, self.extract, limits=limits(2)
        )

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

    def test_says_more_than_a_line(self) -> None:
        """The last line of the complaint says why."""
        script = self.commands.add(
            'python',
            'echo Traceback >&2; echo "  File <a>" >&2; '
            'echo "KeyError: &amp;" >&2; echo >&2; exit 1',
        )
        self.useFixture(
            fixtures.MockPatchObject(sys, 'executable', str(script))
        )
        error = self.assertRaises(exception.TransferDied, self.extract)
        self.assertTrue(str(error).endswith('(exit status 1): KeyError: &'))

    def test_says_nothing(self) -> None:
        script = self.commands.add('python', 'exit 1')
        self.useFixture(
            fixtures.MockPatchObject(sys, 'executable', str(script))
        )
        error = self.assertRaises(exception.TransferDied, self.extract)
        self.assertTrue(str(error).endswith('it has said nothing'))


@ddt.ddt
class UploadTest(ProcessCase):
    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        self.server = self.useFixture(GlanceServer())
        self.record = self.server.glance.add(
            disk_format='raw', container_format='bare'
        )
        self.context = GlanceContext(self.server.url)
        self.image = self.root / 'image'
        self.image.write_bytes(b'image')

    def upload(
        self,
        glance_access: Callable[[], GlanceAccess] | None = None,
        cancellation: Cancellation | None = None,
    ) -> str:
        return data_plane.run(
            Upload(str(self.image), self.record, (), 0),
            NO_LIMITS,
            silent,
            cancellation or Cancellation(),
            glance_access or self.context.glance_access,
        ).sha512

    def tokens(self) -> list[tuple[str, str, str]]:
        """The tokens of the requests for the image, with their answers."""
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
        self.upload(lambda: GlanceAccess(self.server.url, token='t0ken'))
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
        """The error that is raised where the parent answers with one."""
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
        """The job does not retry: it gives up, and says why."""
        away = exception.KeystoneUnavailable(reason='it is away')
        error = self.no_way_to_glance(away, number, exception.UploadFailed)
        assert isinstance(error, exception.UploadFailed)
        self.assertEqual(self.record, error.fields['image'])
        self.assertEqual(1, error.fields['attempts'])
        self.assertEqual(str(away), error.fields['reason'])

    def test_other_error(self) -> None:
        """The error comes back from the job as it went there."""
        no_cloud = exception.NoCloud(reason='it has none')
        error = self.no_way_to_glance(no_cloud, 1, exception.NoCloud)
        assert isinstance(error, exception.NoCloud)
        self.assertEqual(no_cloud.to_dict(), error.to_dict())

    @tables.rows({'upload': (1,), 'proof': (2,)})
    def test_bug_of_the_parent(self, number: int) -> None:
        """The caller gets the error as it was raised."""
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
                data_plane,
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
        """The user reads why, and the log has the traceback."""
        log = self.useFixture(fixtures.FakeLogger(level=logging.WARNING))
        self.image.unlink()
        error = self.assertRaises(exception.TransferDied, self.upload)
        self.assertIn('FileNotFoundError', str(error))
        self.assertNotIn('Traceback', str(error))
        self.assertNotIn('File "', str(error))
        self.assertIn('Traceback', log.output)
        self.assertIn('in getsize', log.output)


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
        self.context = GlanceContext(self.server.url)

    def stream(
        self,
        encoding: Encoding = QCOW2,
        cancellation: Cancellation | None = None,
        progress: Progress = silent,
    ) -> Sent:
        return data_plane.run(
            Stream(self.disk, encoding, self.record, (), 0, str(self.root)),
            NO_LIMITS,
            progress,
            cancellation or Cancellation(),
            self.context.glance_access,
        )

    def test_stream(self) -> None:
        told = []
        sent = self.stream(progress=lambda *step: told.append(step))
        content = self.server.glance.content[self.record]
        self.assertEqual(
            Sent(len(content), hashlib.sha512(content).hexdigest()),
            sent,
        )
        self.assertEqual(('stream', len(content), len(content)), told[-1])

    def test_save(self) -> None:
        path = self.root / 'image'
        encoding = Encoding('qcow2', 'zstd')
        size = data_plane.run(
            Save(self.disk, encoding, str(path), str(self.root)),
            NO_LIMITS,
            silent,
            Cancellation(),
        )
        self.assertEqual(path.stat().st_size, size)
        disks.assert_same(self.disk, Layer(str(path), 'qcow2'))

    def test_extract_of_an_export(self) -> None:
        path = self.root / 'image'
        data_plane.run(
            Extract(self.disks.serve(self.disk), Encoding('vmdk'), str(path)),
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


@ddt.ddt
class LeftTest(ProcessCase):
    """No data plane leaves a file, however it ends."""

    def setUp(self) -> None:
        super().setUp()
        self.workspace = self.root / ('workspace' * 20)
        self.workspace.mkdir()
        self.temporary = self.root / 'temporary'
        self.temporary.mkdir()
        self.useFixture(
            fixtures.EnvironmentVariable('TMPDIR', str(self.temporary))
        )
        self.useFixture(fixtures.MonkeyPatch('tempfile.tempdir', None))

    def save(
        self,
        timeout: int = PATIENCE,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Try to save what a server of no use serves."""
        data_plane.run(
            Save(
                Layer(str(self.root / 'disk'), 'raw'),
                QCOW2,
                str(self.root / 'image'),
                str(self.workspace),
            ),
            limits(timeout),
            silent,
            cancellation or Cancellation(),
        )

    def end_when_served(self, end: Callable[[int], object]) -> None:
        """
        :param end: called with the id of a server that says nothing
        """
        self.commands.add('qemu-nbd', ENDLESS.format(self.root / 'pid'))
        thread = threading.Thread(target=lambda: end(self.wait_for_pid()))
        thread.start()
        self.addCleanup(thread.join)

    def killed(self) -> None:
        self.end_when_served(
            lambda server: os.kill(os.getpgid(server), signal.SIGKILL)
        )
        self.assertRaises(exception.TransferDied, self.save)

    def killed_with_its_server(self) -> None:
        self.end_when_served(
            lambda server: os.killpg(os.getpgid(server), signal.SIGKILL)
        )
        self.assertRaises(exception.TransferDied, self.save)

    def server_killed(self) -> None:
        self.end_when_served(lambda server: os.kill(server, signal.SIGKILL))
        self.assertRaises(exception.SourceUnreadable, self.save)

    def cancelled(self) -> None:
        cancellation = Cancellation()
        self.end_when_served(lambda _server: cancellation.request('SIGINT'))
        self.assertRaises(
            exception.Cancelled, self.save, cancellation=cancellation
        )

    def in_time_out(self) -> None:
        self.end_when_served(lambda _server: None)
        self.assertRaises(exception.TransferTimeout, self.save, timeout=3)

    def server_fails(self) -> None:
        self.commands.add('qemu-nbd', 'echo no such disk >&2; exit 1')
        error = self.assertRaises(exception.SourceUnreadable, self.save)
        self.assertIn('no such disk', str(error))

    def no_server(self) -> None:
        self.assertRaises(exception.CommandMissing, self.save)

    def no_workspace(self) -> None:
        self.commands.add('qemu-nbd', 'exit 1')
        self.workspace.rmdir()
        error = self.assertRaises(exception.SourceUnreadable, self.save)
        self.assertIn('No such file', str(error))
        self.workspace.mkdir()

    def no_temporary_directory(self) -> None:
        self.temporary.rmdir()
        self.server_fails()
        self.temporary.mkdir()

    @tables.rows(
        {
            end.__name__: (end,)
            for end in (
                killed,
                killed_with_its_server,
                server_killed,
                cancelled,
                in_time_out,
                server_fails,
                no_server,
                no_workspace,
                no_temporary_directory,
            )
        }
    )
    def test_nothing(self, end: Callable[[LeftTest], None]) -> None:
        before = self.of_libnbd()
        end(self)
        self.assertEqual(before, self.of_libnbd())
        for directory in (self.workspace, self.temporary):
            self.assertEqual([], list(directory.iterdir()))

    @staticmethod
    def of_libnbd() -> set[pathlib.Path]:
        """The files that libnbd's own start of a server leaves."""
        return set(pathlib.Path('/tmp').glob('libnbd*'))


class GroupTest(testtools.TestCase):
    def test_running(self) -> None:
        """The fixture that the tests rely on."""
        self.assertTrue(is_running(os.getpid()))
        child = subprocess.Popen([sys.executable, '-c', ''])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self.assertFalse(is_running(child.pid))
        child.wait()
        self.assertFalse(is_running(child.pid))


@ddt.ddt
class BelieverTest(ProcessCase):
    """A process that was taken over says anything to its parent."""

    @tables.rows(
        {
            'nothing': ({},),
            'words': ({'size': '1', 'sha512': 'abc'},),
            'less_than_nothing': ({'size': -1, 'sha512': 'abc'},),
            'no_digest': ({'size': 1, 'sha512': None},),
        }
    )
    def test_result_that_makes_no_sense(self, result: dict[str, Any]) -> None:
        self.say(f"echo '{json.dumps({'result': result})}'")
        error = self.assertRaises(
            exception.TransferDied,
            data_plane.run,
            Upload('-', 'image', (), 0),
            NO_LIMITS,
            silent,
            Cancellation(),
        )
        self.assertIn('makes no sense', str(error))

    @hypothesis.settings(
        max_examples=exhaustive.examples(100),
        deadline=None,
        database=None,
        derandomize=True,
    )
    @hypothesis.given(
        strategies.binary(max_size=200)
        | strategies.dictionaries(
            strategies.sampled_from(['progress', 'ask', 'error', 'result']),
            JSON,
            max_size=2,
        ).map(lambda message: json.dumps(message).encode())
    )
    def test_any_line(self, line: bytes) -> None:
        match data_plane.understood(line):
            case None | exception.SnapshotError():
                return
            case {'progress': [int(), int()]} | {'ask': str()}:
                return
            case {'result': dict()}:
                return
            case other:
                self.fail(f'{line!r} was understood as {other}')

    def test_line_without_an_end(self) -> None:
        """A line without an end takes no memory of this process."""
        self.useFixture(
            fixtures.MockPatchObject(data_plane, 'LONGEST_LINE', 1 << 16)
        )
        log = self.useFixture(fixtures.FakeLogger(level=logging.WARNING))
        self.say('head -c 300000 /dev/zero')
        self.assertRaises(exception.TransferDied, self.extract)
        self.assertLess(len(log.output), 50_000)

    def test_more_than_is_heard(self) -> None:
        """The process is ended all the same, and no word of it is kept."""
        self.say(
            'while :; do echo \'{"progress": [1, 2]}\'; '
            'echo \'{"ask": "the way"}\'; done'
        )
        told: list[int] = []

        def slow(step: str, done: int, total: int) -> None:
            told.append(done)
            time.sleep(0.01)

        with data_plane.started(
            Extract, limits(1), slow, Cancellation()
        ) as process:
            self.assertRaises(
                exception.TransferTimeout,
                process.run,
                self.extraction(),
            )
            self.assertLessEqual(process._messages.qsize(), data_plane.BACKLOG)
        self.assertGreater(len(told), 10)

    def test_questions_at_once(self) -> None:
        """Questions take threads, and the time of Keystone."""
        self.say(
            'for i in $(seq 100); do '
            'echo \'{"ask": "glance_access"}\'; done; cat'
        )
        asked: list[int] = []
        go = threading.Event()
        self.addCleanup(go.set)

        def answer() -> GlanceAccess:
            asked.append(1)
            go.wait(PATIENCE)
            return GlanceAccess('http://glance')

        self.assertRaises(
            exception.TransferTimeout,
            data_plane.run,
            Upload('-', 'image', (), 0),
            limits(2),
            silent,
            Cancellation(),
            answer,
        )
        self.assertEqual(data_plane.QUESTIONS, len(asked))

    def say(self, script: str) -> None:
        for name in ('head', 'seq', 'cat'):
            path = shutil.which(name, path=PATH)
            self.commands.add(name, f'exec {path} "$@"')
        python = self.commands.add('python', script)
        self.useFixture(
            fixtures.MockPatchObject(sys, 'executable', str(python))
        )
