# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib
import pwd
import sys
import sysconfig
import time

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import interview
from nova_snapshot_driver.cmd.check.interpreter import Interpreter
from nova_snapshot_driver.cmd.check.nova_user import NovaUser
from nova_snapshot_driver.common.cancellation import Cancellation
from tests.unit import tables
from tests.unit.cmd.nova_prefix import NovaPrefix
from tests.unit.cmd.nova_prefix import write
from tests.unit.denied import Denied

US = NovaUser(os.geteuid(), os.getegid(), None)

NOBODY = NovaUser(
    pwd.getpwnam('nobody').pw_uid, pwd.getpwnam('nobody').pw_gid, '/nova'
)

MODULE = 'nova_snapshot_driver.cmd.check.interpreter'


@ddt.ddt
class FindTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        # Where programs are looked for, all empty.
        self.path = self.root / 'path'
        self.own = self.root / 'own'
        self.usual = self.root / 'usual'
        for directory in (self.path, self.own, self.usual):
            directory.mkdir()
        self.useFixture(fixtures.EnvironmentVariable('PATH', str(self.path)))
        self.useFixture(
            fixtures.MockPatchObject(
                sys, 'executable', str(self.own / 'python3')
            )
        )
        self.useFixture(
            fixtures.MockPatch(
                f'{MODULE}.USUAL_SCRIPT', str(self.usual / 'nova-compute')
            )
        )

    def add(
        self, directory: pathlib.Path, text: str, name: str = 'nova-compute'
    ) -> str:
        script = directory / name
        script.write_text(text)
        script.chmod(0o755)
        return str(script)

    def test_none(self) -> None:
        self.assertEqual(
            Interpreter(str(self.own / 'python3'), assumed=True),
            Interpreter.find(None),
        )

    def test_hidden(self) -> None:
        """A nova-compute that can't be read may be the one that runs."""
        self.useFixture(Denied(self.usual))
        error = self.assertRaises(
            exception.SnapshotError, Interpreter.find, None
        )
        self.assertIn(
            f'Not known: {self.usual}/nova-compute cannot be read', str(error)
        )
        self.assertIn('--nova-python', str(error))

    def test_given(self) -> None:
        self.add(self.path, '#!/usr/bin/python3\n')
        self.assertEqual(
            Interpreter('/opt/bin/python'), Interpreter.find('/opt/bin/python')
        )

    @tables.rows({name: (name,) for name in ('path', 'own', 'usual')})
    def test_place(self, name: str) -> None:
        script = self.add(getattr(self, name), '#!/opt/nova/bin/python3.12\n')
        self.assertEqual(
            Interpreter('/opt/nova/bin/python3.12', script=script),
            Interpreter.find(None),
        )

    def test_path_goes_first(self) -> None:
        script = self.add(self.path, '#!/opt/a/bin/python\n')
        self.add(self.own, '#!/opt/a/bin/python\n')
        other = self.add(self.usual, '#!/opt/b/bin/python\n')
        self.assertEqual(
            Interpreter('/opt/a/bin/python', script=script, others=(other,)),
            Interpreter.find(None),
        )

    @tables.rows(
        {
            'another': ('#!/opt/b/bin/python\n',),
            'unnamed': ('#!/bin/bash\nexec /opt/b/bin/nova-compute "$@"\n',),
        }
    )
    def test_other(self, text: str) -> None:
        self.add(self.path, '#!/opt/a/bin/python\n')
        other = self.add(self.usual, text)
        self.assertEqual((other,), Interpreter.find(None).others)

    def test_hidden_other(self) -> None:
        self.add(self.path, '#!/opt/a/bin/python\n')
        self.useFixture(Denied(self.usual))
        self.assertEqual(
            (f'{self.usual}/nova-compute',), Interpreter.find(None).others
        )

    @tables.rows(
        {
            'plain': ('#!/usr/bin/python3\n', '/usr/bin/python3'),
            'space': ('#! /usr/bin/python3\n', '/usr/bin/python3'),
            'flag': ('#!/usr/bin/python3 -s\n', '/usr/bin/python3'),
            'unknown_env': ('#!/usr/bin/env python4\n', 'python4'),
            'long_path': (
                '#!/bin/sh\n'
                """'''exec' /very/long/bin/python3 "$0" "$@"\n"""
                "' '''\n",
                '/very/long/bin/python3',
            ),
            'path_with_space': (
                '#!/bin/sh\n'
                """'''exec' "/with a/space/bin/python3" "$0" "$@"\n"""
                "' '''\n",
                '/with a/space/bin/python3',
            ),
        }
    )
    def test_shebang(self, text: str, python: str) -> None:
        self.add(self.path, text)
        self.assertEqual(python, Interpreter.find(None).path)

    def test_shebang_with_env(self) -> None:
        python = self.add(self.path, '', 'python3')
        for line in ('env python3', 'env -S python3 -s'):
            self.add(self.path, f'#!/usr/bin/{line}\n')
            self.assertEqual(python, Interpreter.find(None).path)

    @tables.rows(
        {
            'shell': ('#!/bin/bash\nexec /opt/nova/bin/nova-compute "$@"\n',),
            'short_shell': ('#!/bin/sh\n',),
            'quotes': ('#!/bin/sh\n"\n',),
            'program': ('\x7fELF\udcff',),
            'env_alone': ('#!/usr/bin/env\n',),
            'nothing': ('',),
        }
    )
    def test_no_telling(self, text: str) -> None:
        script = self.add(self.path, '')
        pathlib.Path(script).write_text(text, errors='surrogateescape')
        error = self.assertRaises(
            exception.SnapshotError, Interpreter.find, None
        )
        self.assertIn(script, str(error))
        self.assertIn('--nova-python', str(error))


class AskTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.prefix = self.useFixture(NovaPrefix('with a space'))

    def fake(self, script: str) -> Interpreter:
        python = self.prefix.bin / 'fake'
        write(python, f'#!/bin/sh\n{script}\n')
        python.chmod(0o755)
        return Interpreter(str(python))

    def assert_no_answer(self, script: str, detail: str) -> None:
        error = self.assertRaises(
            exception.SnapshotError,
            self.fake(script).ask,
            US,
            Cancellation(),
        )
        self.assertIn(detail, str(error))

    def test_environment(self) -> None:
        answers = Interpreter(self.prefix.python).ask(US, Cancellation())
        self.assertEqual(str(self.prefix.prefix), answers.prefix)
        self.assertEqual(str(self.prefix.site), answers.purelib)
        self.assertFalse(answers.externally_managed)
        self.assertIsNone(answers.nova)

    def test_environment_of_this_process(self) -> None:
        """The environment of this process is not that of nova-compute."""
        other = self.prefix.root / 'other'
        self.prefix.add_nova(site=other)
        self.useFixture(fixtures.EnvironmentVariable('PYTHONPATH', str(other)))
        directory = os.getcwd()
        self.addCleanup(os.chdir, directory)
        os.chdir(other)
        answers = Interpreter(self.prefix.python).ask(US, Cancellation())
        self.assertIsNone(answers.nova)

    def test_chatter(self) -> None:
        self.prefix.add_nova()
        write(self.prefix.site / 'nova/__init__.py', 'print("hello")\n')
        answers = Interpreter(self.prefix.python).ask(US, Cancellation())
        self.assertIsNotNone(answers.virt)

    def test_pip(self) -> None:
        self.assertEqual(
            "'/with a space/python' -m pip install nova",
            Interpreter('/with a space/python').pip('install', 'nova'),
        )

    def test_old(self) -> None:
        self.assert_no_answer('echo [3, 9]', 'Python 3.9')

    def test_no_python(self) -> None:
        self.assert_no_answer('echo no such option >&2; exit 3', 'such option')

    def test_silence(self) -> None:
        self.assert_no_answer('exit 0', '--nova-python')

    def test_something_else(self) -> None:
        self.assert_no_answer('echo hello', '--nova-python')

    def cannot_run(self, error: OSError, user: NovaUser) -> str:
        self.useFixture(
            fixtures.MockPatch('subprocess.Popen', side_effect=error)
        )
        return str(
            self.assertRaises(
                exception.SnapshotError,
                Interpreter('/opt/python').ask,
                user,
                Cancellation(),
            )
        )

    def test_out_of_reach(self) -> None:
        """Somebody who is neither root nor Nova's user can't tell."""
        self.useFixture(fixtures.MockPatch('os.geteuid', return_value=4242))
        error = self.cannot_run(PermissionError(13, 'Go away'), NOBODY)
        self.assertIn('Not known: /opt/python cannot be run by #4242', error)
        self.assertIn('as nobody, or as root', error)

    def test_root_that_may_not_become_another_user(self) -> None:
        self.useFixture(fixtures.MockPatch('os.geteuid', return_value=0))
        error = self.cannot_run(PermissionError(1, 'Not permitted'), NOBODY)
        self.assertIn('Not known: this root may not act as nobody', error)

    def test_hangs(self) -> None:
        self.useFixture(fixtures.MockPatch(f'{MODULE}.TIMEOUT', 0.1))
        self.useFixture(fixtures.MockPatch(f'{MODULE}.POLL_INTERVAL', 0.05))
        began = time.monotonic()
        self.assert_no_answer('exec sleep 60', 'did not answer within 0.1 s')
        # The check does not wait for it.
        self.assertLess(time.monotonic() - began, 30)


class ExternallyManagedTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.useFixture(
            fixtures.MockPatchObject(
                sysconfig, 'get_path', return_value=str(self.root)
            )
        )
        self.useFixture(
            fixtures.MockPatchObject(sys, 'prefix', sys.base_prefix)
        )

    def test_it_is(self) -> None:
        write(self.root / 'EXTERNALLY-MANAGED')
        self.assertTrue(interview._externally_managed())

    def test_it_is_not(self) -> None:
        self.assertFalse(interview._externally_managed())

    def test_virtual_environment(self) -> None:
        write(self.root / 'EXTERNALLY-MANAGED')
        self.useFixture(
            fixtures.MockPatchObject(sys, 'prefix', str(self.root))
        )
        self.assertFalse(interview._externally_managed())
