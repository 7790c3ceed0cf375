# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.state import watchdog
from tests import faults
from tests.unit import documents
from tests.unit import tables
from tests.unit.host import FakeHost

#: Says what it has read when its input ends.
OBSERVER = (
    sys.executable,
    '-c',
    'import os, sys; text = sys.stdin.read(); '
    'open("{path}.draft", "w").write(text); '
    'os.rename("{path}.draft", "{path}")',
)

#: Keeps a watchdog until it is ended itself.
KEEPER = """\
import sys
from unittest import mock
from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.state import watchdog

guest = mock.Mock()
guest.name, guest.uuid = 'web-1', 'a-uuid'
guest.connection_uri.return_value = 'qemu:///system'
watchdog.COMMAND = sys.argv[1:]
with watchdog.kept(conf.read_settings(conf.load([])).undo, guest):
    print('kept', flush=True)
    sys.stdin.read()
"""

PATIENCE = 30


@ddt.ddt
class WatchTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.seen = self.root / 'seen'
        self.command = [part.format(path=self.seen) for part in OBSERVER]

    def keeper(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, '-c', KEEPER, *self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(process.__exit__, None, None, None)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.assertEqual(b'kept\n', process.stdout.readline())
        return process

    def watchdogs(self) -> list[str]:
        """The live watchdogs, among all processes."""
        found = []
        for entry in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
            try:
                command = entry.read_bytes()
            except OSError:
                continue
            if (
                str(self.seen).encode() in command
                and b'watchdog.' not in command
            ):
                found.append(entry.parent.name)
        return found

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    @tables.rows(
        {
            'killed': (signal.SIGKILL,),
            'terminated': (signal.SIGTERM,),
            'aborted': (signal.SIGABRT,),
        }
    )
    def test_process_dies(self, number: signal.Signals) -> None:
        keeper = self.keeper()
        self.assertFalse(self.seen.exists())
        keeper.send_signal(number)
        self.wait_for(self.seen.exists)
        job = json.loads(self.seen.read_text())
        self.assertEqual('qemu:///system', job['uri'])
        self.assertEqual(('web-1', 'a-uuid'), (job['domain'], job['uuid']))
        self.assertEqual(300, job['settings']['qemu_timeout'])
        self.wait_for(lambda: not self.watchdogs())

    def test_group_dies_but_not_it(self) -> None:
        """As after Ctrl-C."""
        keeper = self.keeper()
        # The command line of a process is visible a moment after its start.
        self.wait_for(self.watchdogs)
        (watchdog,) = self.watchdogs()
        self.assertEqual(int(watchdog), os.getpgid(int(watchdog)))
        self.assertNotEqual(os.getsid(keeper.pid), os.getsid(int(watchdog)))
        os.kill(int(watchdog), signal.SIGKILL)

    def test_nothing_is_left_after_a_snapshot(self) -> None:
        keeper = self.keeper()
        self.wait_for(self.watchdogs)
        assert keeper.stdin is not None
        keeper.stdin.close()
        self.assertEqual(0, keeper.wait(PATIENCE))
        self.assertEqual([], self.watchdogs())
        self.assertFalse(self.seen.exists())

    def test_no_secret_and_no_token(self) -> None:
        keeper = self.keeper()
        keeper.kill()
        self.wait_for(self.seen.exists)
        self.assertEqual(
            {'uri', 'domain', 'uuid', 'settings', 'reason'},
            set(json.loads(self.seen.read_text())),
        )


class HostTest(testtools.TestCase):
    """On a host with one guest."""

    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())
        self.before = self.host.before()
        self.seen = self.host.root / 'seen'

    def kept_while(self, uri: str) -> bool:
        """Whether there is a watchdog while the disk is read."""
        command = [part.format(path=self.seen) for part in OBSERVER]
        self.useFixture(fixtures.MockPatchObject(watchdog, 'COMMAND', command))
        self.useFixture(
            fixtures.MockPatchObject(
                type(self.host.connection), 'getURI', lambda _self: uri
            )
        )
        kept = []

        def look() -> None:
            children = pathlib.Path(
                f'/proc/self/task/{os.getpid()}/children'
            ).read_text()
            kept.append(bool(children.split()))

        self.host.data_plane.at_extract = look
        self.host.snapshot()
        self.assertEqual([], self.host.differences(self.before))
        self.assertFalse(self.seen.exists())
        (found,) = kept
        return found

    def test_libvirt_of_all(self) -> None:
        self.assertTrue(self.kept_while('qemu:///system'))

    def test_libvirt_of_this_process_alone(self) -> None:
        self.assertFalse(self.kept_while('qemu:///embed?root=/nowhere'))

    def test_none_can_be_started(self) -> None:
        """The snapshot is taken all the same."""
        self.useFixture(
            fixtures.MockPatch(
                'subprocess.Popen', side_effect=OSError(12, 'No memory')
            )
        )
        self.assertFalse(self.kept_while('qemu:///system'))
        self.assertIn(
            f'Domain {documents.NAME} has no watchdog', self.host.log.output
        )

    def observe(self) -> None:
        """Have an observer in place of the watchdog."""
        command = [part.format(path=self.seen) for part in OBSERVER]
        self.useFixture(fixtures.MockPatchObject(watchdog, 'COMMAND', command))
        self.useFixture(
            fixtures.MockPatchObject(
                type(self.host.connection),
                'getURI',
                lambda _self: 'qemu:///system',
            )
        )

    def test_rescue_begins_at_once(self) -> None:
        self.observe()
        watchdog.rescue(self.host.settings.undo, self.host.guest())
        deadline = time.monotonic() + PATIENCE
        while not self.seen.exists():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.assertIn(documents.UUID, self.seen.read_text())

    def test_rescue_that_can_not_begin(self) -> None:
        """The snapshot is complete all the same."""
        refused = faults.libvirt_error(38, 'refused')
        with fixtures.MockPatchObject(
            type(self.host.connection), 'getURI', side_effect=refused
        ):
            watchdog.rescue(self.host.settings.undo, self.host.guest())
        self.assertIn('has no watchdog', self.host.log.output)

    def test_what_is_not_given_back_is_left_to_it(self) -> None:
        self.observe()
        with (
            testtools.ExpectedException(exception.UndoFailed),
            watchdog.kept(self.host.settings.undo, self.host.guest()),
        ):
            raise exception.UndoFailed(
                domain='web-1', undo='-', reason='-', remedy='-'
            )
        deadline = time.monotonic() + PATIENCE
        while not self.seen.exists():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_one_that_has_died(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(watchdog, 'COMMAND', ['false'])
        )
        with watchdog.kept(self.host.settings.undo, self.host.guest()):
            pass

    def test_libvirt_does_not_say(self) -> None:
        refused = faults.libvirt_error(38, 'refused')
        with fixtures.MockPatchObject(
            type(self.host.connection), 'getURI', side_effect=refused
        ):
            self.assertRaises(exception.HypervisorError, self.host.snapshot)
        self.assertEqual([], self.host.differences(self.before))
